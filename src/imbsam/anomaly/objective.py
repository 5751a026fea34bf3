"""What a detector is made of: a network, the loss of each row, and the score."""

from collections.abc import Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from imbsam.anomaly.batches import Batching, row_batches
from imbsam.anomaly.networks import Reconstruction
from imbsam.anomaly.settings import Scaling
from imbsam.optim import Ascent, Gradient


class ScaledRows(Protocol):
    """The training rows as the network sees them."""

    @property
    def kinds(self) -> Tensor:
        """Of each row, shape ``(N,)``."""

    def take(self, index: Tensor) -> Tensor:
        """Some rows, shape ``(n, *shape)``."""

    def blocks(self) -> Iterator[Tensor]:
        """All rows, some at a time."""


class Objective(nn.Module):
    """A network with the loss of each row of a batch and the score of any row.

    Rows come scaled, shape ``(B, *shape)``; kinds are those of :mod:`imbsam.anomaly.labels`. A subclass is made with
    the shape of a row, ``(columns,)`` of a table or ``(channels, height, width)`` of an image, and its own options.

    Attributes:
        tail: For each kind of row (of pair, of mixture) a batch may hold: whether it has a labelled anomaly.
        least_anomalies: Labelled anomalies it cannot do without.
        rho: Neighbourhood size that suits the loss.
        lr: Learning rate that suits it.
        weight_decay: That suits it.
        scaling: Scaling of the columns, what the network is made for.
        anomaly_share: Share of each batch that holds a labelled anomaly, unless asked otherwise; 0 leaves it to chance.
    """

    tail: ClassVar[tuple[bool, ...]] = (False, True, False)
    least_anomalies: ClassVar[int] = 1
    rho: float = 0.1
    lr: float = 1e-3
    weight_decay: float = 1e-6
    scaling: ClassVar[Scaling] = "standard"
    anomaly_share: ClassVar[float] = 0.125

    def pretraining(self, draw: torch.Generator) -> Reconstruction | None:
        """The auto-encoder to train first, on every row alike; ``None`` where there is none.

        Args:
            draw: Source of its weights.
        """
        return None

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Look at the training rows between pre-training and training, in evaluation mode.

        Args:
            rows: The training rows.
            draw: Source of random numbers.
        """
        return

    def counts(self, kinds: Tensor) -> Tensor:
        """Return how many samples of each kind there are to train on.

        Args:
            kinds: Kinds of each training row, shape ``(N,)``.

        Returns:
            Tensor of shape ``(len(tail),)``.
        """
        return torch.bincount(kinds, minlength=len(self.tail))

    def batches(self, kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch.

        Args:
            kinds: Kinds of each training row, shape ``(N,)``.
            batching: Sizes.
            draw: Source of random numbers.

        Yields:
            Row numbers, shape ``(B,)`` or several to a sample ``(B, k)``, and the kind of each sample, ``(B,)``.
        """
        for index in row_batches(kinds, batching, draw):
            yield index, kinds[index]

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Make samples of the scaled rows that :meth:`batches` names; by default they are the samples.

        Args:
            rows: Shape ``(B, *shape)``, or several to a sample ``(B, k, *shape)``.
            draw: Source of random numbers.

        Returns:
            Tensor of shape ``(B, ...)``.
        """
        return rows

    def ascent(self, damping: float) -> Ascent:
        """Return where the perturbation points under a method that leaves it open.

        Args:
            damping: Keeps the perturbation short where the gradient is.
        """
        return Gradient(damping)

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            outputs: What :meth:`forward` gave, shape ``(B, ...)``.
            kinds: Kinds of each sample, shape ``(B,)``.

        Returns:
            Tensor of shape ``(B,)``.
        """
        raise NotImplementedError

    def score(self, rows: Tensor) -> Tensor:
        """Return how anomalous each scaled row is, higher is more; by default what :meth:`forward` gives.

        Args:
            rows: Shape ``(B, *shape)``.

        Returns:
            Tensor of shape ``(B,)``.
        """
        scores: Tensor = self(rows)
        return scores
