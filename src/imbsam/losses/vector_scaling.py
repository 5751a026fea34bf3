"""Vector scaling (VS) loss: logits scaled and shifted per class."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import checked_logits, checked_option, fitting_targets, positive_counts
from imbsam.priors import ClassPriors


class VectorScaling(nn.Module):
    """Cross-entropy of ``(n_c / n_max)^gamma * z_c + tau * log pi_c`` (Kini et al. 2021).

    Logit adjustment is ``gamma = 0``; class-dependent temperatures (CDT) are ``tau = 0``. Predictions use the
    plain logits. Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns
    losses ``(B,)``.

    Args:
        priors: Class priors of the training data, with counts n_c; pi_c is the share of class c.
        gamma: Exponent of the multiplicative scaling, at least 0.
        tau: Temperature of the additive shift.

    Raises:
        OptionError: If ``gamma`` is negative or ``tau`` not finite.
        PriorsError: If a class has no training sample.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, priors: ClassPriors, *, gamma: float = 0.3, tau: float = 1.0) -> None:
        super().__init__()
        gamma = checked_option("gamma", gamma, "of at least 0", lambda g: g >= 0)
        tau = checked_option("tau", tau, "that is finite")
        counts = positive_counts(priors, "the VS loss")
        self.register_buffer("scale", ((counts / counts.max()) ** gamma).float(), persistent=False)
        self.register_buffer("shift", (tau * priors.log_priors).float(), persistent=False)

    @property
    def training_shift(self) -> Tensor:
        """Return what to add to the outputs for logits of the posterior under the training priors, shape ``(C,)``."""
        return self.shift

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = checked_logits(logits, len(self.shift))
        return cross_entropy(self.scale * logits + self.shift, fitting_targets(targets, logits), reduction="none")
