"""Shares of a batch: which of its rows each of several processes takes."""

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_ROWS = 2
"""Of a shard: BatchNorm cannot train on one row."""


@dataclass(frozen=True)
class Shard:
    """One of several parts of every batch, consecutive rows and nearly as many in each.

    A batch too small for all of them is repeated as a whole until it suffices: the mean over the repeats is the mean
    over the batch, and so is what is made of them.

    Args:
        number: Which part, from 0.
        parts: How many there are.
    """

    number: int = 0
    parts: int = 1

    def repeats(self, rows: int) -> int:
        """Return how many times each row of the batch is in some shard.

        Args:
            rows: Rows of the batch.
        """
        return 1 if self.parts == 1 else -(-max(rows, FEWEST_ROWS * self.parts) // rows)

    def positions(self, rows: int) -> Tensor:
        """Places of the shard's rows in the batch, shape ``(r,)``.

        Args:
            rows: Rows of the batch, at least 1.
        """
        return torch.arange(rows).repeat(self.repeats(rows)).tensor_split(self.parts)[self.number]

    def share(self, rows: int) -> float:
        """The share of the batch that this shard is; those of all shards add up to 1.

        Args:
            rows: Rows of the batch.
        """
        return len(self.positions(rows)) / (rows * self.repeats(rows))


WHOLE = Shard()
