"""LDAM: the rarer the class, the wider its margin."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import checked_logits, checked_option, class_targets, positive_counts
from imbsam.priors import ClassPriors


class LDAM(nn.Module):
    """Label-distribution-aware margin loss (Cao et al. 2019): ``CE(s * (z - m_y 1_y), y)``.

    The margin of class c is ``m_c = max_margin * (n_min / n_c)^(1/4)``. The logits must be cosines in [-1, 1]:
    give the model an :class:`imbsam.models.CosineClassifier` (``models.build(..., cosine_classifier=True)``).
    With the logits of a linear classifier the scale makes training diverge.

    Called with logits ``(B, C)`` and int64 targets ``(B,)``; returns losses ``(B,)``.

    Args:
        priors: Class priors of the training data, with counts n_c.
        max_margin: Margin of the rarest class, at least 0.
        scale: s, above 0.

    Raises:
        OptionError: If ``max_margin`` or ``scale`` is out of range.
        PriorsError: If a class has no training sample.
    """

    margins: Tensor

    def __init__(self, priors: ClassPriors, *, max_margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__()
        max_margin = checked_option("max_margin", max_margin, "of at least 0", lambda m: m >= 0)
        self.scale = checked_option("scale", scale, "above 0", lambda s: s > 0)
        counts = positive_counts(priors, "LDAM")
        margins = max_margin * (counts.min() / counts) ** 0.25
        self.register_buffer("margins", margins.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = checked_logits(logits, len(self.margins))
        is_target = class_targets(targets, "LDAM").unsqueeze(1) == torch.arange(
            len(self.margins), device=targets.device
        )
        return cross_entropy(self.scale * (logits - self.margins * is_target), targets, reduction="none")
