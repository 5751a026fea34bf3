"""Cross-entropy, the loss that all others build on."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import at_least_float32, checked_option, fitting_targets


class CrossEntropy(nn.Module):
    """Cross-entropy of each sample, with optional label smoothing (Szegedy et al. 2016, section 7).

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns
    losses ``(B,)``.

    Args:
        label_smoothing: Share of the target's weight that is spread evenly over all C classes, in [0, 1).

    Raises:
        OptionError: If ``label_smoothing`` is outside [0, 1).
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = checked_option("label_smoothing", label_smoothing, "in [0, 1)", lambda e: 0 <= e < 1)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = at_least_float32(logits)
        targets = fitting_targets(targets, logits)
        return cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
