"""Complete trees: the leaves that rows come to, by walking down each tree, and scikit-learn's forests converted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from anomaly.forest import leaf
from imbsam.anomaly import trees as module
from imbsam.anomaly.trees import CompleteTrees, converted
from imbsam.data.seeding import generator
from imbsam.errors import OptionError

FLOATS = st.floats(-(2.0**127), 2.0**127, width=32) | st.sampled_from([0.0, -0.0, 1.0, math.inf])


def planted(columns, cuts, dtype=torch.float64):
    trees = CompleteTrees(len(cuts), int(math.log2(len(cuts[0]) + 1))).to(dtype)
    trees.column.copy_(torch.tensor(columns))
    trees.cut.copy_(torch.tensor(cuts))
    return trees


def random_trees(trees, depth, columns):
    shape, draw = (trees, 2**depth - 1), generator(3)
    cuts = torch.randn(shape, generator=draw, dtype=torch.float64)
    cuts[torch.rand(shape, generator=draw) < 0.3] = math.inf
    return planted(torch.randint(columns, shape, generator=draw).tolist(), cuts.tolist())


def walked(trees, rows):
    pairs = list(zip(trees.column.tolist(), trees.cut.tolist(), strict=True))
    return [[leaf(columns, cuts, row) for row in rows.tolist()] for columns, cuts in pairs]


@pytest.mark.parametrize("block", [1, 100, module.BLOCK])
@pytest.mark.parametrize(("count", "depth", "columns"), [(1, 1, 1), (7, 3, 2), (5, 8, 40), (3, 10, 4)])
def test_rows_come_to_the_leaf_that_a_walk_comes_to(count, depth, columns, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    trees, rows = random_trees(count, depth, columns), torch.randn(50, columns, generator=generator(1))
    assert trees.leaves(rows).tolist() == walked(trees, rows)


@given(st.lists(FLOATS, min_size=7, max_size=7), st.lists(FLOATS, min_size=1, max_size=5))
@settings(deadline=None)
def test_equal_signed_zero_tiny_and_infinite_numbers_go_where_a_comparison_sends_them(cuts, values):
    trees = planted([[0] * 7], [cuts])
    values = [value for value in (*values, *cuts) if value < math.inf]
    rows = torch.tensor(values, dtype=torch.float64)[:, None]
    assert trees.leaves(rows).tolist() == walked(trees, rows)


@given(st.floats(-1e30, 1e30))
@settings(deadline=None)
def test_a_cut_of_double_precision_parts_the_numbers_of_single_precision_exactly(cut):
    nearest = np.float32(cut)
    rows = torch.tensor([[np.nextafter(nearest, np.float32(-np.inf))], [nearest], [np.nextafter(nearest, np.inf)]])
    trees = planted([[0]], [[cut]])
    assert trees.leaves(rows).tolist() == walked(trees, rows.double())


def test_a_number_too_large_for_single_precision_still_goes_left_under_a_cut_of_infinity():
    assert planted([[0]], [[math.inf]]).leaves(torch.tensor([[1e300]], dtype=torch.float64)).tolist() == [[0]]


def test_the_mean_of_a_leafs_values_is_taken_over_the_trees():
    trees, rows = random_trees(7, 3, 2), torch.randn(50, 2, generator=generator(1))
    values = torch.randn(7, 8, 3, dtype=torch.float64, generator=generator(2))
    expected = torch.stack([values[tree, at] for tree, at in enumerate(trees.leaves(rows))]).mean(dim=0)
    torch.testing.assert_close(trees.mean_of(values, rows), expected)
    assert trees.mean_of(values, rows[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
@pytest.mark.parametrize("decimals", [1, 12])
@pytest.mark.parametrize(("depth", "classes"), [(1, 2), (4, 3), (10, 5)])
def test_a_converted_forest_says_what_scikit_learns_says(kind, decimals, depth, classes):
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((400, 6)).round(decimals), rng.integers(classes, size=400)
    fitted = kind(20, max_depth=depth, class_weight="balanced", random_state=0).fit(rows, targets)
    # On the cuts themselves and next to them, where rounding would show.
    cuts = np.concatenate([tree.tree_.threshold for tree in fitted.estimators_]).astype(np.float32)
    near = np.concatenate([cuts, np.nextafter(cuts, np.float32(np.inf)), np.nextafter(cuts, np.float32(-np.inf))])
    new = np.concatenate([rows, rng.choice(near, (400, 6))])
    np.testing.assert_allclose(
        converted(fitted)(torch.from_numpy(new)).numpy(), fitted.predict_proba(new), rtol=0, atol=1e-12
    )


def test_a_forest_with_nothing_to_cut_is_converted():
    fitted = RandomForestClassifier(3, random_state=0).fit(np.zeros((4, 2)), [0, 1, 1, 1])
    rows = np.ones((2, 2))
    np.testing.assert_allclose(converted(fitted)(torch.from_numpy(rows)).numpy(), fitted.predict_proba(rows))


def test_in_single_precision_a_converted_forest_has_the_same_leaves():
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((300, 3)).astype(np.float32), rng.integers(2, size=300)
    trees = converted(RandomForestClassifier(5, max_depth=8, random_state=0).fit(rows, targets))
    double = trees.leaves(torch.from_numpy(rows))
    assert torch.equal(trees.float().leaves(torch.from_numpy(rows)), double)


def test_a_forest_too_deep_or_of_several_targets_is_refused():
    rows, targets = np.arange(4000.0)[:, None], np.arange(4000) % 2
    with pytest.raises(OptionError, match="max_depth=10"):
        converted(RandomForestClassifier(1, random_state=0).fit(rows, targets))
    with pytest.raises(OptionError, match="one target"):
        converted(RandomForestClassifier(1, max_depth=2).fit(rows, np.stack([targets, targets], axis=1)))
