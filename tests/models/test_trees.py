"""Trees as tensors: each row ends in the leaf that a walk ends in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbsam.models.trees import Boosting, Forest, Nodes, Trees

CODES = 5


def grown(seed, levels, values):
    """A random tree as nested pairs, and as nodes: column 0 is a number, column 1 a code."""
    draw = torch.Generator().manual_seed(seed)
    nodes = {"feature": [], "threshold": [], "left": [], "right": [], "values": []}
    codes = {}

    def grow(level):
        place = len(nodes["feature"])
        split = level > 0 and bool(torch.rand(1, generator=draw) < 0.8)
        column = int(torch.randint(2, (1,), generator=draw)) if split else -1
        value = torch.rand(values, generator=draw, dtype=torch.float64)
        threshold = float(torch.randn(1, generator=draw))
        for name, held in zip(nodes, (column, threshold, 0, 0, value), strict=True):
            nodes[name].append(held)
        if not split:
            return value
        lefts = None
        if column == 1:
            lefts = codes[place] = (torch.rand(CODES, generator=draw) < 0.5).tolist()
        children = []
        for side in ("left", "right"):
            nodes[side][place] = len(nodes["feature"])
            children.append(grow(level - 1))
        return (column, threshold, lefts, *children)

    tree = grow(levels)
    kinds = {"feature": torch.int64, "threshold": torch.float64, "left": torch.int64, "right": torch.int64}
    tensors = {name: torch.tensor(nodes[name], dtype=kind) for name, kind in kinds.items()}
    return tree, Nodes(**tensors, values=torch.stack(nodes["values"]), depth=levels, codes=codes)


def walked(tree, row):
    while isinstance(tree, tuple):
        column, threshold, lefts, left, right = tree
        goes_left = row[0] <= threshold if column == 0 else lefts[int(row[1])]
        tree = left if goes_left else right
    return tree


def rows_of(seed, number=20):
    draw = torch.Generator().manual_seed(seed)
    numbers, codes = torch.randn(number, generator=draw), torch.randint(CODES, (number,), generator=draw)
    return torch.stack([numbers, codes.float()], dim=1)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_forest_is_the_mean_of_the_leaves_of_its_trees(seed, levels):
    grove = [grown(seed + place, level, 3) for place, level in enumerate(levels)]
    rows = rows_of(seed)
    expected = torch.stack([torch.stack([walked(tree, row) for tree, _ in grove]).mean(0) for row in rows])
    torch.testing.assert_close(Forest(Trees.packed([nodes for _, nodes in grove]))(rows), expected)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("rounds", [1, 4])
def test_boosting_adds_up_the_trees_of_each_class(classes, rounds):
    grove = [grown(seed, 4, 1) for seed in range(rounds * classes)]
    rows, start = rows_of(0), torch.arange(classes, dtype=torch.float64)
    of_class = [[tree for tree, _ in grove[k::classes]] for k in range(classes)]
    expected = torch.stack(
        [torch.cat([sum(walked(tree, row) for tree in trees) for trees in of_class]) for row in rows]
    )
    found = Boosting({**Trees.packed([nodes for _, nodes in grove]), "start": start})(rows)
    if classes == 1:
        assert (found[:, 0] == 0).all()
        found = found[:, 1:]
    torch.testing.assert_close(found, expected + start)


def test_a_state_makes_the_same_trees_again():
    forest = Forest(Trees.packed([grown(seed, 4, 2)[1] for seed in range(3)]))
    torch.testing.assert_close(Forest(forest.state_dict())(rows_of(1)), forest(rows_of(1)), rtol=0, atol=0)
