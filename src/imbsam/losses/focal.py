"""Focal loss: samples that are already classified well count less."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from imbsam.losses.checks import at_least_float32, checked_option


class Focal(nn.Module):
    """Focal loss of each sample, ``(1 - p_y)^gamma * -log p_y`` (Lin et al. 2017, eq. 4, over a softmax).

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``, over which the loss is
    averaged; returns losses ``(B,)``.

    Args:
        gamma: Focusing exponent, at least 0; 0 is cross-entropy.

    Raises:
        OptionError: If ``gamma`` is negative or not finite.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = checked_option("gamma", gamma, "of at least 0", lambda g: g >= 0)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = at_least_float32(logits)
        if targets.is_floating_point():
            return (targets.to(logits.dtype) * self._focused(-log_softmax(logits, 1))).sum(1)
        return self._focused(cross_entropy(logits, targets, reduction="none"))

    def _focused(self, losses: Tensor) -> Tensor:
        # 1 - p of a sample learnt to the last bit is 0, where the slope of x^gamma is infinite for gamma < 1:
        # the floor keeps its gradient 0 instead of NaN.
        miss = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
        return miss**self.gamma * losses
