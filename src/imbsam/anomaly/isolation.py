"""The isolation forest (Liu et al., ICDM 2008); its trees are buffers, saved and moved with the network."""

import math

import torch
from torch import Tensor

from imbsam.anomaly.objective import ScaledRows
from imbsam.anomaly.trees import CompleteTrees

DEPTH = 8
SAMPLE = 2**DEPTH
"""Number of rows that a tree is grown on, as published."""
EULER = 0.5772156649015329


class IsolationForest(CompleteTrees):
    """Isolation forest: the score ``2^(-E[h] / c(n))`` is near 1 if few random cuts isolate a row (eq. 2).

    Every tree is a complete tree of depth 8. Where there is nothing left to cut, all rows go left and the path length h
    stops growing; ``c`` of the number of rows in a leaf is added to it.

    Args:
        columns: Number of columns of a row.
        trees: Number of trees, at least 1.
    """

    length: Tensor
    usual: Tensor

    def __init__(self, columns: int, trees: int) -> None:
        super().__init__(trees, DEPTH)
        self.columns = columns
        self.register_buffer("length", torch.zeros(trees, SAMPLE))
        self.register_buffer("usual", torch.tensor(1.0))

    @torch.no_grad()
    def grow(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Grow every tree on rows that it draws.

        Args:
            rows: Training rows, of any kind.
            draw: Source of the rows, columns and cuts.
        """
        number = len(rows.kinds)
        for tree in range(len(self.cut)):
            sample = rows.take(torch.randperm(number, generator=draw)[:SAMPLE])
            self._grow(tree, sample.float().to(sample), draw)
        self.usual.fill_(max(float(_unsuccessful(torch.tensor(min(number, SAMPLE)))), 1.0))

    def _grow(self, tree: int, rows: Tensor, draw: torch.Generator) -> None:
        place = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        cuts = rows.new_zeros(1)
        for level in range(DEPTH):
            nodes = 2**level
            into = place[:, None].expand_as(rows)
            low = rows.new_full((nodes, self.columns), math.inf).scatter_reduce(0, into, rows, "amin")
            high = rows.new_full((nodes, self.columns), -math.inf).scatter_reduce(0, into, rows, "amax")
            varies = high > low
            chances = 1 - torch.rand(nodes, self.columns, generator=draw)
            column = (chances.to(rows.device) * varies).argmax(dim=1)
            low, high = (ends.gather(1, column[:, None]).squeeze(1) for ends in (low, high))
            share = torch.rand(nodes, generator=draw, dtype=torch.float64).to(rows)
            splits = varies.any(dim=1)
            cut = torch.where(splits, low + share * (high - low), math.inf)
            here = slice(nodes - 1, 2 * nodes - 1)
            self.column[tree, here], self.cut[tree, here] = column, cut
            values = rows.gather(1, column[place][:, None]).squeeze(1)
            place = 2 * place + (values > cut[place])
            cuts = (cuts + splits).repeat_interleave(2)
        self.length[tree] = cuts + _unsuccessful(torch.bincount(place, minlength=SAMPLE)).to(cuts)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute how anomalous each row is, shape ``(B,)``, in (0, 1)."""
        return torch.exp2(-self.mean_of(self.length, rows) / self.usual)


def _unsuccessful(rows: Tensor) -> Tensor:
    """Compute ``c(n)``, the mean path length of an unsuccessful search among n rows (eq. 1), float64; 0 for one row."""
    n = rows.double()
    several = n.clamp(min=3)
    c = 2 * ((several - 1).log() + EULER) - 2 * (several - 1) / several
    return torch.where(n > 2, c, (n == 2).double())
