"""Interface of an objective: a network, the loss of each row, and the score."""

from collections.abc import Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from imbsam.anomaly.batches import Batching, row_batches
from imbsam.anomaly.networks import Reconstruction
from imbsam.anomaly.settings import Scaling
from imbsam.optim import Ascent, Gradient


class ScaledRows(Protocol):
    """Training rows as the network sees them."""

    @property
    def kinds(self) -> Tensor:
        """Kind of each row, shape ``(N,)``."""

    def take(self, index: Tensor) -> Tensor:
        """Return some rows, shape ``(n, *shape)``."""

    def blocks(self) -> Iterator[Tensor]:
        """Yield all rows in blocks."""


class Objective(nn.Module):
    """Network with the loss of each row of a batch and the score of any row.

    Rows come scaled, shape ``(B, *shape)``; kinds are those of :mod:`imbsam.anomaly.labels`. A subclass is made with
    the shape of a row, ``(columns,)`` of a table or ``(channels, height, width)`` of an image, and its own options.

    Attributes:
        tail: Whether each kind of row (of pair, of mixture) in a batch has a labelled anomaly.
        least_anomalies: Smallest number of labelled anomalies that it needs.
        rho: Neighbourhood size that suits the loss.
        lr: Learning rate that suits the loss.
        weight_decay: Weight decay that suits the loss.
        scaling: Scaling of the columns that the network is made for.
        anomaly_share: Default share of each batch that has a labelled anomaly; 0 leaves it to chance.
    """

    tail: ClassVar[tuple[bool, ...]] = (False, True, False)
    least_anomalies: ClassVar[int] = 1
    rho: float = 0.1
    lr: float = 1e-3
    weight_decay: float = 1e-6
    scaling: ClassVar[Scaling] = "standard"
    anomaly_share: ClassVar[float] = 0.125

    def pretraining(self, draw: torch.Generator) -> Reconstruction | None:
        """Return the auto-encoder to train first, on every row alike; ``None`` if there is none.

        Args:
            draw: Source of its weights.
        """
        return None

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Look at the training rows between pre-training and training, in evaluation mode.

        Args:
            rows: Training rows.
            draw: Source of random numbers.
        """
        return

    def counts(self, kinds: Tensor) -> Tensor:
        """Count the samples of each kind in training.

        Args:
            kinds: Kinds of each training row, shape ``(N,)``.

        Returns:
            Counts, shape ``(len(tail),)``.
        """
        return torch.bincount(kinds, minlength=len(self.tail))

    def batches(self, kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch.

        Args:
            kinds: Kinds of each training row, shape ``(N,)``.
            batching: Composition of the batches.
            draw: Source of random numbers.

        Yields:
            Row numbers, shape ``(B,)`` or several to a sample ``(B, k)``, and the kind of each sample, ``(B,)``.
        """
        for index in row_batches(kinds, batching, draw):
            yield index, kinds[index]

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Make samples from the scaled rows that :meth:`batches` names; by default the rows are the samples.

        Args:
            rows: Rows, shape ``(B, *shape)``, or several to a sample ``(B, k, *shape)``.
            draw: Source of random numbers.

        Returns:
            Samples, shape ``(B, ...)``.
        """
        return rows

    def ascent(self, damping: float) -> Ascent:
        """Return the ascent of a method that leaves it open.

        Args:
            damping: Damping, which keeps the perturbation short where the gradient is small.
        """
        return Gradient(damping)

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the loss of each sample.

        Args:
            outputs: Result of :meth:`forward`, shape ``(B, ...)``.
            kinds: Kind of each sample, shape ``(B,)``.

        Returns:
            Losses, shape ``(B,)``.
        """
        raise NotImplementedError

    def score(self, rows: Tensor) -> Tensor:
        """Compute how anomalous each scaled row is, higher is more; by default the result of :meth:`forward`.

        Args:
            rows: Rows, shape ``(B, *shape)``.

        Returns:
            Scores, shape ``(B,)``.
        """
        scores: Tensor = self(rows)
        return scores
