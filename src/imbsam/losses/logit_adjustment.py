"""Logit adjustment: the class priors enter the logits, in training or after it."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import checked_logits, checked_option, fitting_targets, positive_counts
from imbsam.priors import ClassPriors


class LogitAdjustment(nn.Module):
    """Cross-entropy of ``z_c + tau * log pi_c`` (Menon et al. 2021); predictions use the plain logits.

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns
    losses ``(B,)``.

    Args:
        priors: Class priors of the training data; pi_c is the share of class c.
        tau: Temperature; 0 is cross-entropy, 1 aims at the balanced error.

    Raises:
        OptionError: If ``tau`` is not finite.
        PriorsError: If a class has no training sample.
    """

    shift: Tensor

    def __init__(self, priors: ClassPriors, *, tau: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("shift", _scaled_log_priors(priors, tau).float(), persistent=False)

    @property
    def training_shift(self) -> Tensor:
        """Return what to add to the outputs for logits of the posterior under the training priors, shape ``(C,)``."""
        return self.shift

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = checked_logits(logits, len(self.shift))
        return cross_entropy(logits + self.shift, fitting_targets(targets, logits), reduction="none")


def adjust_logits(logits: Tensor, priors: ClassPriors, *, tau: float = 1.0) -> Tensor:
    """Adjust logits after training, ``z_c - tau * log pi_c`` (Menon et al. 2021).

    Use it for a model trained with cross-entropy. A model trained with :class:`LogitAdjustment`,
    :class:`BalancedSoftmax` or :class:`VectorScaling` has learned the adjustment already.

    Args:
        logits: Outputs of the model, shape ``(B, C)``.
        priors: Class priors of the training data; pi_c is the share of class c.
        tau: Temperature.

    Returns:
        Adjusted logits, shape ``(B, C)``, at least float32, on the device of ``logits``.

    Raises:
        OptionError: If ``tau`` is not finite.
        PriorsError: If a class has no training sample, or the logits have another number of classes.
    """
    logits = checked_logits(logits, priors.num_classes)
    return logits - _scaled_log_priors(priors, tau).to(logits)


def _scaled_log_priors(priors: ClassPriors, tau: float) -> Tensor:
    positive_counts(priors, "logit adjustment")
    return checked_option("tau", tau, "that is finite") * priors.log_priors
