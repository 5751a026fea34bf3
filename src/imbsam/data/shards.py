"""Shares of a batch: the rows that each of several processes takes."""

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_ROWS = 2
"""Smallest number of rows of a shard: BatchNorm cannot train on one row."""


@dataclass(frozen=True)
class Shard:
    """One of several parts of every batch, with consecutive rows and almost equal sizes.

    A batch too small for all shards is repeated as a whole until it suffices: the mean over the repeats equals the mean
    over the batch, and so do the gradients.

    Args:
        number: Number of the part, from 0.
        parts: Number of parts.
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
        """Return the indices of the shard's rows in the batch, shape ``(r,)``.

        Args:
            rows: Number of rows of the batch, at least 1.
        """
        return torch.arange(rows).repeat(self.repeats(rows)).tensor_split(self.parts)[self.number]

    def share(self, rows: int) -> float:
        """Return the share of the batch that this shard is; the shares of all shards sum to 1.

        Args:
            rows: Rows of the batch.
        """
        return len(self.positions(rows)) / (rows * self.repeats(rows))


WHOLE = Shard()
