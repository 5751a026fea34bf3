"""Balanced softmax: the class counts enter the softmax."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam.losses.checks import checked_logits, fitting_targets, positive_counts
from imbsam.priors import ClassPriors


class BalancedSoftmax(nn.Module):
    """Cross-entropy of ``z_c + log n_c`` (Ren et al. 2020); predictions use the plain logits.

    Called with logits ``(B, C)`` and classes ``(B,)``, int64, or probabilities ``(B, C)``; returns
    losses ``(B,)``.

    Args:
        priors: Class priors of the training data, with counts n_c.

    Raises:
        PriorsError: If a class has no training sample.
    """

    log_counts: Tensor

    def __init__(self, priors: ClassPriors) -> None:
        super().__init__()
        log_counts = positive_counts(priors, "balanced softmax").log()
        self.register_buffer("log_counts", log_counts.float(), persistent=False)

    @property
    def training_shift(self) -> Tensor:
        """Return what to add to the outputs for logits of the posterior under the training priors, shape ``(C,)``."""
        return self.log_counts

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each sample, shape ``(B,)``."""
        logits = checked_logits(logits, len(self.log_counts))
        return cross_entropy(logits + self.log_counts, fitting_targets(targets, logits), reduction="none")
