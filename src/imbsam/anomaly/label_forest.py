"""Forest that separates labelled anomalies from a few of the other rows, with out-of-bag scores of training rows."""

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.objective import ScaledRows
from imbsam.anomaly.trees import ClassifyingTrees

DEPTH = 6
SAMPLE = 256
"""Largest number of unlabelled rows that a tree is grown on; also at most half of them."""
LEAF = 5
"""Smallest number of rows in a leaf: labels are few, and unlabelled anomalies are expected among the others."""


def grow(trees: ClassifyingTrees, rows: ScaledRows, seed: int) -> Tensor:
    """Grow every tree on a few unlabelled rows and on draws of the labelled anomalies, as many as there are.

    Each kind has half of the weight. So the cost of a tree does not depend on the number of rows, and most rows are out
    of its bag.

    Args:
        trees: Trees of two classes, at least 1, which are filled.
        rows: Training rows, at least one labelled anomaly and one other.
        seed: Seed of everything random.

    Returns:
        Share of anomalies in a row's leaves, shape ``(N,)``, float64, over the trees that were not grown on the row, or
        over all trees if every tree was.
    """
    draw = np.random.default_rng(seed)
    kinds = rows.kinds.numpy()
    anomalies, others = np.flatnonzero(kinds == ANOMALY), np.flatnonzero(kinds != ANOMALY)
    size = max(1, min(SAMPLE, len(others) // 2))
    inside, grown_on = np.zeros(len(kinds)), np.zeros(len(kinds), dtype=np.int64)
    for number in range(len(trees.cut)):
        few = draw.choice(others, size, replace=False)
        drawn = draw.choice(anomalies, len(anomalies))
        index = np.concatenate([few, drawn])
        seen = rows.take(torch.from_numpy(index)).float().cpu().numpy()
        target = (kinds[index] == ANOMALY).astype(np.int64)
        weights = np.where(target == 1, 0.5 / len(drawn), 0.5 / len(few)) * len(index)
        tree = DecisionTreeClassifier(
            max_depth=DEPTH, min_samples_leaf=LEAF, max_features="sqrt", random_state=int(draw.integers(2**31))
        ).fit(seen, target, sample_weight=weights)
        trees.put(number, tree)
        bag, first = np.unique(index, return_index=True)
        inside[bag] += tree.predict_proba(seen[first])[:, 1]
        grown_on[bag] += 1
    return _out_of_bag(trees, rows.blocks(), torch.from_numpy(inside), torch.from_numpy(grown_on))


def _out_of_bag(trees: ClassifyingTrees, blocks: Iterator[Tensor], inside: Tensor, grown_on: Tensor) -> Tensor:
    every = torch.cat([trees(block)[:, 1].double().cpu() for block in blocks])
    left = len(trees.cut) - grown_on
    return torch.where(left > 0, (every * len(trees.cut) - inside) / left.clamp(min=1), every)
