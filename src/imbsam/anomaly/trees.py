"""Complete decision trees as buffers, evaluated by torch: those of an isolation forest, or of scikit-learn."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from imbsam.errors import OptionError

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

DEEPEST = 10
"""Largest depth of a converted forest: a complete tree of depth d has ``2^d`` leaves, used or not."""

BLOCK = 2**15
"""Number of pairs of a row and a tree (or column) that are processed at once, so that they fit the caches."""


class CompleteTrees(nn.Module):
    """Trees of one depth; inner nodes are stored level by level, the children of node i at ``2i + 1`` and ``2i + 2``.

    A row goes right if its column is above the cut, so that all rows go left at a cut of infinity. Rows are in single
    precision, as in scikit-learn's trees; cuts may be in either, and the comparison is exact.

    Args:
        trees: Number of trees, at least 1.
        depth: Depth of each.
    """

    column: Tensor
    cut: Tensor

    def __init__(self, trees: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.register_buffer("column", torch.zeros(trees, 2**depth - 1, dtype=torch.long))
        self.register_buffer("cut", torch.zeros(trees, 2**depth - 1))

    def mean_of(self, values: Tensor, rows: Tensor) -> Tensor:
        """Compute the mean over the trees of the values of the rows' leaves.

        Args:
            values: Values of each leaf, from the left, shape ``(trees, leaves, ...)``.
            rows: Rows, shape ``(B, columns)``, finite.

        Returns:
            Means, shape ``(B, ...)``.
        """
        each, shape = values.flatten(0, 1), values.shape[2:]
        return torch.cat(
            self._of_blocks(rows, lambda at: each.index_select(0, at.flatten()).view(*at.shape, *shape).mean(dim=0))
        )

    def leaves(self, rows: Tensor) -> Tensor:
        """Find the leaf of each row in each tree, counted from the left.

        Args:
            rows: Rows, shape ``(B, columns)``, finite.

        Returns:
            Leaves, shape ``(trees, B)``, int64.
        """
        first = torch.arange(len(self.cut), device=self.cut.device)[:, None] << self.depth
        return torch.cat(self._of_blocks(rows, lambda at: at - first), dim=1)

    def _of_blocks(self, rows: Tensor, then: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Apply a function to the leaves of each block of rows, int32, shape ``(trees, b)``, counted over all trees."""
        trees, levels = len(self.cut), [2**level for level in range(self.depth)]
        columns = [part.flatten() for part in torch.split(self.column.int(), levels, dim=1)]
        cuts = [part.flatten() for part in torch.split(below(self.cut), levels, dim=1)]
        blocks = torch.split(rows, max(1, BLOCK // max(trees, rows.shape[1])))
        return [then(_walk(columns, cuts, block, trees)) for block in blocks]


def _walk(columns: list[Tensor], cuts: list[Tensor], rows: Tensor, trees: int) -> Tensor:
    finite = torch.finfo(torch.float32)
    seen = rows.T.float().clamp(finite.min, finite.max).contiguous()
    row = torch.arange(len(rows), dtype=torch.int32, device=rows.device).repeat(trees)
    node = torch.arange(trees, dtype=torch.int32, device=rows.device)[:, None]
    for level, (column, cut) in enumerate(zip(columns, cuts, strict=True)):
        # Of the ways to look many numbers up, index_select in one dimension by int32 is torch's fastest by far; at the
        # roots it need only copy whole columns.
        if level == 0:
            margin = cut[:, None] - seen.index_select(0, column)
            seen = seen.flatten()
        else:
            at = column.index_select(0, node).mul_(len(rows)).add_(row)
            margin = cut.index_select(0, node).sub_(seen.index_select(0, at))
        # 1 where the row is above the cut: the sign bit of the difference, several times as fast as a comparison.
        node = (margin.view(torch.int32) >> 31).neg_().add_(node, alpha=2).flatten()
    return node.expand(trees, len(rows)) if not columns else node.view(trees, len(rows))


def below(cuts: Tensor) -> Tensor:
    """Return the greatest single-precision numbers that are not above these; no other such number lies between."""
    nearest = cuts.float() + 0.0  # -0.0 becomes 0.0, the sign of which is that of a difference of 0.
    return torch.where(nearest > cuts, nearest.nextafter(nearest.new_tensor(-math.inf)), nearest)


class ClassifyingTrees(CompleteTrees):
    """Trees of a fitted forest of scikit-learn.

    Args:
        trees: Number of trees, at least 1.
        depth: Depth of each.
        classes: Number of classes, at least 1.
    """

    share: Tensor

    def __init__(self, trees: int, depth: int, classes: int) -> None:
        super().__init__(trees, depth)
        self.register_buffer("share", torch.zeros(trees, 2**depth, classes))

    def put(self, number: int, fitted: "DecisionTreeClassifier") -> None:
        """Copy a fitted tree of at most this depth, whose targets include all classes.

        Args:
            number: Index of the tree.
            fitted: The fitted tree.
        """
        self.column[number], self.cut[number], self.share[number] = _completed(fitted, self.depth)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute each class's mean share in the leaves, scikit-learn's ``predict_proba``, shape ``(B, classes)``."""
        return self.mean_of(self.share, rows)


def converted(forest: "RandomForestClassifier | ExtraTreesClassifier") -> ClassifyingTrees:
    """Convert a fitted forest to these trees, in double precision.

    Args:
        forest: Forest fitted on one target, with a ``max_depth`` of at most 10.

    Raises:
        OptionError: If a tree is deeper, or there are several targets.
    """
    depth = max(tree.get_depth() for tree in forest.estimators_)
    if depth > DEEPEST or forest.n_outputs_ != 1:
        raise OptionError(
            f"a forest of depth at most {DEEPEST} and one target can be converted; this one has depth {depth} and "
            f"{forest.n_outputs_}. Fit it with max_depth={DEEPEST} or less, on one target."
        )
    trees = ClassifyingTrees(len(forest.estimators_), depth, int(forest.n_classes_)).double()
    for number, tree in enumerate(forest.estimators_):
        trees.put(number, tree)
    return trees


def _completed(fitted: "DecisionTreeClassifier", depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns, cuts and the leaves' shares; a leaf higher up is continued to the left, by infinite cuts."""
    tree = fitted.tree_
    left, right, column = (torch.from_numpy(a.copy()) for a in (tree.children_left, tree.children_right, tree.feature))
    inner, node = left >= 0, torch.arange(tree.node_count)
    left, right, column = torch.where(inner, left, node), torch.where(inner, right, node), column.clamp(min=0)
    cut = torch.where(inner, below(torch.from_numpy(tree.threshold.copy())).double(), math.inf)
    level, levels = torch.zeros(1, dtype=torch.long), []
    for _ in range(depth):
        levels.append(level)
        level = torch.stack([left[level], right[level]], dim=1).flatten()
    nodes = torch.cat([*levels, level[:0]])
    return column[nodes], cut[nodes], torch.from_numpy(tree.value[:, 0].copy())[level]
