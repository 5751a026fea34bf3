"""Deferred re-weighting (DRW): class weights that are switched on late in training."""

import torch
from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.losses.class_balanced import class_balanced_weights
from imbsam.losses.training_shift import training_shift
from imbsam.priors import ClassPriors


class Deferred(nn.Module):
    """Any per-sample loss, times class-balanced weights from a given epoch (DRW, Cao et al. 2019, algorithm 1).

    Before ``start`` the losses are those of ``criterion``, bit for bit. The only state is the epoch last given
    to :meth:`set_epoch`: a resumed run sets it again.

    Args:
        criterion: Loss called with logits ``(B, C)`` and classes ``(B,)``, int64; returns losses ``(B,)``. It may also
            take probabilities ``(B, C)`` if its loss is their average over the classes; the part of each class then has
            the weight of that class.
        priors: Class priors of the training data.
        start: First epoch with weights, counted from 0 (160 of 200 there).
        beta: Parameter of :func:`class_balanced_weights`, in [0, 1).

    Raises:
        OptionError: If ``start`` is not an integer of at least 0, or ``beta`` is outside [0, 1).
        PriorsError: If a class has no training sample.

    Example:
        >>> criterion = Deferred(LDAM(priors), priors, start=160)
        >>> criterion.set_epoch(160)
    """

    weights: Tensor

    def __init__(self, criterion: nn.Module, priors: ClassPriors, *, start: int, beta: float = 0.9999) -> None:
        super().__init__()
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise OptionError(f"start must be an epoch of at least 0; got {start!r}.")
        self.criterion = criterion
        self.start = start
        self.register_buffer("weights", class_balanced_weights(priors, beta=beta).float(), persistent=False)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that begins.

        Args:
            epoch: Number of the epoch, counted from 0.
        """
        self.active = epoch >= self.start

    @property
    def training_shift(self) -> Tensor | None:
        """Return the shift of the loss less the log weights, once these apply, shape ``(C,)``; None for none."""
        shift = training_shift(self.criterion)
        if not self.active:
            return shift
        return -self.weights.log() if shift is None else shift - self.weights.log()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        if self.active and targets.is_floating_point():
            weighted = targets * self.weights
            # The loss is linear in the targets, and some losses take none but those that sum to 1.
            total = weighted.sum(1).clamp_min(torch.finfo(weighted.dtype).tiny)
            mixed: Tensor = self.criterion(logits, weighted / total[:, None])
            return total * mixed
        losses: Tensor = self.criterion(logits, targets)
        return losses * self.weights[targets] if self.active else losses
