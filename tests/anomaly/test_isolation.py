"""The isolation forest: its trees, its path lengths and its scores, against the paper written out."""

import math

import pytest
import torch
from sklearn.ensemble import IsolationForest as Sklearn

from anomaly.forest import leaf, strangeness
from anomaly.rows import Scaled
from imbsam.anomaly.isolation import SAMPLE, IsolationForest
from imbsam.data.seeding import generator


def grown(rows, trees=20, seed=0):
    forest = IsolationForest(rows.shape[1], trees).double()
    forest.grow(Scaled(rows, torch.zeros(len(rows), dtype=torch.long)), generator(seed))
    return forest


def blob(rows=120, columns=3):
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator(7))


def usual_length(n):
    """c(n) of the paper's equation 1, with the harmonic number as it approximates it."""
    return 0.0 if n < 2 else 1.0 if n == 2 else 2 * (math.log(n - 1) + 0.5772156649015329) - 2 * (n - 1) / n


def test_the_score_of_a_row_is_that_of_its_paths():
    forest, rows = grown(blob()), blob()
    expected = [strangeness(forest, row) for row in rows.tolist()]
    torch.testing.assert_close(forest(rows), torch.tensor(expected, dtype=torch.float64))


def test_a_path_is_as_long_as_its_cuts_and_the_rows_that_share_its_leaf():
    rows = blob(SAMPLE - 6)  # no more than a tree is grown on, so every tree has seen all of them
    forest = grown(rows, trees=3)
    for columns, cuts, lengths in zip(forest.column.tolist(), forest.cut.tolist(), forest.length.tolist(), strict=True):
        leaves = [leaf(columns, cuts, row) for row in rows.tolist()]
        for place in set(leaves):
            above, node = 0, place + len(columns)
            while node:
                node = (node - 1) // 2
                above += cuts[node] < math.inf
            assert lengths[place] == pytest.approx(above + usual_length(leaves.count(place)))


def test_every_cut_has_rows_on_both_sides():
    rows = blob()
    forest = grown(rows, trees=3)
    for columns, cuts in zip(forest.column.tolist(), forest.cut.tolist(), strict=True):
        at = {0: rows.tolist()}
        for node in range(len(columns)):
            here = at.pop(node, [])
            sides = [[row for row in here if row[columns[node]] <= cuts[node]],
                     [row for row in here if row[columns[node]] > cuts[node]]]  # fmt: skip
            if cuts[node] < math.inf:
                assert all(sides)
            at[2 * node + 1], at[2 * node + 2] = sides


def test_rows_that_are_all_equal_are_neither_usual_nor_strange():
    rows = torch.ones(30, 2, dtype=torch.float64)
    assert grown(rows)(rows).tolist() == pytest.approx([0.5] * 30)


def test_a_row_far_from_all_others_is_the_strangest():
    rows = torch.cat([blob(), torch.full((1, 3), 9.0, dtype=torch.float64)])
    assert int(grown(rows, trees=50)(rows).argmax()) == 120


def test_it_ranks_rows_as_scikit_learns_does():
    rows = blob(600, 5) ** 3
    ours = grown(rows, trees=200)(rows)
    theirs = torch.from_numpy(-Sklearn(n_estimators=200, random_state=0).fit(rows.numpy()).score_samples(rows.numpy()))
    assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.97


def test_the_same_source_grows_the_same_trees():
    rows = blob(400)
    first, again, other = grown(rows, seed=1), grown(rows, seed=1), grown(rows, seed=2)
    assert torch.equal(first(rows), again(rows))
    assert not torch.equal(first(rows), other(rows))
