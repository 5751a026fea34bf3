"""Class-balanced weights: classes weighted by the inverse of their effective number of samples."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import checked_logits, checked_option, fitting_targets, positive_counts
from imbsam.priors import ClassPriors


def class_balanced_weights(priors: ClassPriors, *, beta: float = 0.9999) -> Tensor:
    """Compute weights ``(1 - beta) / (1 - beta^n_c)``, rescaled to sum to C (Cui et al. 2019).

    Args:
        priors: Class priors of the training data, with counts n_c.
        beta: Parameter in [0, 1): 0 weights all classes alike, and towards 1 the weights tend to 1 / n_c.

    Returns:
        Weight of each class, shape ``(C,)``, float64.

    Raises:
        OptionError: If ``beta`` is outside [0, 1).
        PriorsError: If a class has no training sample.
    """
    beta = checked_option("beta", beta, "in [0, 1)", lambda b: 0 <= b < 1)
    positive_counts(priors, "class-balanced weighting")
    return priors.class_balanced_weights(beta)


class ClassBalanced(nn.Module):
    """Cross-entropy times the class-balanced weight of the target (Cui et al. 2019).

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns losses ``(B,)``.
    Divide their sum by the batch size, not by the sum of the weights. With probabilities as targets, the part of each
    class has the weight of that class.

    Args:
        priors: Class priors of the training data.
        beta: Parameter in [0, 1); 0 is cross-entropy.

    Raises:
        OptionError: If ``beta`` is outside [0, 1).
        PriorsError: If a class has no training sample.
    """

    weights: Tensor

    def __init__(self, priors: ClassPriors, *, beta: float = 0.9999) -> None:
        super().__init__()
        self.register_buffer("weights", class_balanced_weights(priors, beta=beta).float(), persistent=False)

    @property
    def training_shift(self) -> Tensor:
        """Return what to add to the outputs for logits of the posterior under the training priors, shape ``(C,)``."""
        return -self.weights.log()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = checked_logits(logits, len(self.weights))
        if targets.is_floating_point():
            targets = fitting_targets(targets, logits)
            return cross_entropy(logits, targets, weight=self.weights.to(logits), reduction="none")
        losses = cross_entropy(logits, targets, reduction="none")
        return losses * self.weights[targets]
