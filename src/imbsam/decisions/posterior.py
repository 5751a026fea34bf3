"""Class probabilities under named class priors, and decisions, which are made separately."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from imbsam.decisions.calibration import UNCALIBRATED, Calibration, fitted_calibration
from imbsam.decisions.class_prior import ClassPrior, log_class_prior, log_training_priors
from imbsam.priors import ClassPriors


@dataclass(frozen=True)
class Posterior:
    """Meaning of a classifier's outputs z, by Bayes' rule.

    ``scale * z + shift`` is the evidence, the logarithm of p(row given class) up to a constant of the row, and e the
    calibrated evidence. Under class prior q the probabilities are ``softmax(e + log q)``, and the decision is
    ``argmax(e + weights)``.

    Args:
        training: Logarithm of the classes' shares of the training rows, shape ``(C,)``, float64.
        told: Logarithm of the class prior of the probabilities, shape ``(C,)``.
        weights: Weights of the decision, shape ``(C,)``.
        shift: Shift of the evidence, shape ``(C,)``.
        scale: Scale of the evidence, above 0.
        calibration: Calibration of the evidence.
    """

    training: Tensor
    told: Tensor
    weights: Tensor
    shift: Tensor
    scale: float = 1.0
    calibration: Calibration = UNCALIBRATED

    def evidence(self, outputs: Tensor) -> Tensor:
        """Compute the calibrated evidence e, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return self.calibration.balanced(self.scale * outputs.double() + self.shift, self.training)

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Compute log probabilities under the requested class prior, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return (self.evidence(outputs) + self.told).log_softmax(dim=1)

    def log_training(self, outputs: Tensor) -> Tensor:
        """Compute log probabilities under the priors of the training rows, shape ``(N, C)``.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return (self.evidence(outputs) + self.training).log_softmax(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """Compute the scores of which the highest decides the class, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return self.evidence(outputs) + self.weights

    def calibrated(self, outputs: Tensor, targets: Tensor) -> "Posterior":
        """Return a posterior with the calibration fitted on held-out rows, whatever their class frequencies are.

        Args:
            outputs: Outputs, shape ``(N, C)``.
            targets: Class of each sample, shape ``(N,)``, int64; without rows nothing changes.
        """
        if not len(targets):
            return self
        evidence = self.scale * outputs.double() + self.shift
        found = fitted_calibration(evidence.numpy(), targets.numpy(), self.training.numpy())
        return replace(self, calibration=found)

    def weighted(self, more: Tensor) -> "Posterior":
        """Return a posterior with something added to the weights of the decision.

        Args:
            more: Addend of the weights, shape ``(C,)``.
        """
        return replace(self, weights=self.weights + more)


def posterior_under(
    asked: ClassPrior,
    priors: ClassPriors,
    classes: Sequence[object],
    *,
    scale: float = 1.0,
    training_shift: Tensor | None = None,
    costs: Tensor | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> Posterior:
    """Make a posterior from the training rows, the loss and the requested class prior.

    Args:
        asked: Class prior, see :func:`~imbsam.decisions.class_prior.log_class_prior`. With None, probabilities are
            given under the training priors, and decisions are made as if all classes were equally frequent.
        priors: Class priors of the training rows.
        classes: Names of the classes, length C.
        scale: Factor that turns outputs into logits.
        training_shift: Shift that turns these into logits of the posterior under the training priors, shape ``(C,)``;
            None for no shift.
        costs: Costs of missing a row of each class, shape ``(C,)``: decisions are those of least expected cost under
            the prior of the probabilities.
        calibration: Calibration of the evidence; under the class prior of the loss, outputs are used unchanged.

    Raises:
        OptionError: If the class prior cannot be used.
    """
    training = log_training_priors(priors)
    told = log_class_prior("training" if asked is None else asked, priors, classes, training_shift)
    weights = log_class_prior("balanced", priors, classes) if asked is None and costs is None else told
    if costs is not None:
        weights = weights + costs.double().log()
    shift = -training if training_shift is None else training_shift.double().cpu() - training
    is_as_it_comes = isinstance(asked, str) and asked == "loss"
    return Posterior(training, told, weights, shift, scale, UNCALIBRATED if is_as_it_comes else calibration)
