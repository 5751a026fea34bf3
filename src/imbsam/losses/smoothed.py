"""Label smoothing: a part of each target is spread evenly over all classes."""

from torch import Tensor, nn
from torch.nn.functional import one_hot

from imbsam.losses.checks import at_least_float32, checked_option
from imbsam.losses.training_shift import training_shift


class Smoothed(nn.Module):
    """Any per-sample loss that takes probabilities, with smoothed targets (Szegedy et al. 2016, section 7).

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns losses ``(B,)``.
    Give the optimizer the original targets: with smoothed ones every row would belong to the tail a little.

    Args:
        criterion: Loss called with logits and probabilities ``(B, C)``; returns losses ``(B,)``.
        smoothing: Share of each target that is spread evenly over all C classes, in [0, 1).

    Raises:
        OptionError: If ``smoothing`` is outside [0, 1).
    """

    def __init__(self, criterion: nn.Module, smoothing: float) -> None:
        super().__init__()
        self.criterion = criterion
        self.smoothing = checked_option("label_smoothing", smoothing, "in [0, 1)", lambda e: 0 <= e < 1)

    @property
    def training_shift(self) -> Tensor | None:
        """Return the shift of the loss, shape ``(C,)``; None for none."""
        return training_shift(self.criterion)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits, classes = at_least_float32(logits), logits.shape[1]
        if not targets.is_floating_point():
            targets = one_hot(targets, classes).to(logits.dtype)
        spread = targets.sum(1, keepdim=True) * (self.smoothing / classes)
        losses: Tensor = self.criterion(logits, targets * (1 - self.smoothing) + spread)
        return losses
