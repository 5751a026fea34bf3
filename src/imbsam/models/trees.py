"""Decision trees as tensors, so that a forest is stored, moved and exported like any other module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Nodes:
    """Nodes of one tree; the first is its root, and children come after their parent.

    Args:
        feature: Column that a node tests, shape ``(n,)``, int64; -1 for a leaf.
        threshold: Largest value with which a row goes left, shape ``(n,)``, float64.
        left: Index of the left child, shape ``(n,)``, int64.
        right: Index of the right child, shape ``(n,)``, int64.
        values: Values of the leaves and, unused, of the other nodes, shape ``(n, K)``.
        depth: Number of steps from the root to the deepest leaf.
        codes: For each node that tests a category, by its index: whether a row with each code goes left.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    values: Tensor
    depth: int
    codes: Mapping[int, Sequence[bool]] = field(default_factory=dict)


class Trees(nn.Module):
    """Trees with values of one shape, evaluated together.

    Args:
        tensors: State from :meth:`packed`.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in ("feature", "threshold", "left", "right", "asks", "goes_left", "roots", "depth", "leaf", "values"):
            self.register_buffer(name, tensors[name])
        self.feature: Tensor
        self.threshold: Tensor
        self.left: Tensor
        self.right: Tensor
        self.asks: Tensor
        self.goes_left: Tensor
        self.roots: Tensor
        self.depth: Tensor
        self.leaf: Tensor
        self.values: Tensor
        self.levels, self.asks_codes = int(self.depth), bool((self.asks >= 0).any())

    @staticmethod
    def packed(trees: Sequence[Nodes]) -> dict[str, Tensor]:
        """Concatenate trees into one state of :class:`Trees`."""
        starts = torch.tensor([0, *(len(tree.feature) for tree in trees)]).cumsum(0)
        together = {
            name: torch.cat([getattr(tree, name) for tree in trees]) for name in ("feature", "threshold", "values")
        }
        is_leaf = together["feature"] < 0
        place = torch.arange(len(is_leaf))
        offsets = starts[:-1].repeat_interleave(starts.diff())
        # A leaf is its own child: a row that has arrived stays.
        left, right = (
            torch.where(is_leaf, place, torch.cat([getattr(tree, side) for tree in trees]) + offsets)
            for side in ("left", "right")
        )
        width = max([len(codes) for tree in trees for codes in tree.codes.values()], default=1)
        rows = [
            (start + node, codes)
            for start, tree in zip(starts.tolist(), trees, strict=False)
            for node, codes in tree.codes.items()
        ]
        asks = torch.full_like(place, -1)
        goes_left = torch.zeros(max(len(rows), 1), width, dtype=torch.bool)
        for row, (node, codes) in enumerate(rows):
            asks[node] = row
            goes_left[row, : len(codes)] = torch.tensor(codes)
        return {
            "feature": together["feature"].clamp_min(0),
            "threshold": together["threshold"],
            "left": left,
            "right": right,
            "asks": asks,
            "goes_left": goes_left,
            "roots": starts[:-1],
            "depth": torch.tensor(max(tree.depth for tree in trees)),
            "leaf": torch.where(is_leaf, is_leaf.long().cumsum(0) - 1, 0),
            "values": together["values"][is_leaf],
        }

    def leaves(self, rows: Tensor) -> Tensor:
        """Find the leaf of each row in each tree: its index among the values, shape ``(B, T)``."""
        at = self.roots.expand(rows.shape[0], -1)
        for _ in range(self.levels):
            asked = rows.gather(1, self.feature[at])
            is_left = asked <= self.threshold[at]
            if self.asks_codes:
                row, code = self.asks[at], asked.long().clamp(0, self.goes_left.shape[1] - 1)
                # Not torch.where: ONNX has none of truth values.
                is_left = (is_left & (row < 0)) | (self.goes_left[row.clamp_min(0), code] & (row >= 0))
            at = torch.where(is_left, self.left[at], self.right[at])
        return self.leaf[at]


class Forest(Trees):
    """Forest that averages the values of its trees: probabilities ``(B, C)`` of rows ``(B, F)``."""

    def forward(self, rows: Tensor) -> Tensor:
        """Compute probabilities, shape ``(B, C)``."""
        return self.values[self.leaves(rows)].mean(dim=1)


class Boosting(Trees):
    """Boosted trees, one for each class in turn, added to a start value: logits ``(B, C)`` of rows ``(B, F)``.

    Args:
        tensors: State from :meth:`Trees.packed`, and ``start``, shape ``(K,)``; K is C, or 1 for two classes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.register_buffer("start", tensors["start"])
        self.start: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits, shape ``(B, C)``."""
        each = len(self.start)
        sums = self.values[self.leaves(rows), 0].view(rows.shape[0], -1, each).sum(dim=1) + self.start
        return torch.cat([torch.zeros_like(sums), sums], dim=1) if each == 1 else sums
