"""Probabilities of classes under named class priors, and decisions apart from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from imbsam.decisions.calibration import UNCALIBRATED, Calibration, fitted_calibration
from imbsam.decisions.class_prior import ClassPrior, log_class_prior, log_training_priors
from imbsam.priors import ClassPriors


@dataclass(frozen=True)
class Posterior:
    """What the outputs z of a classifier say, by the rule of Bayes.

    ``scale * z + shift`` is the evidence, the logarithm of p(row given class) up to a constant of the row, and e what
    the calibration makes of it. Under class prior q the probabilities are ``softmax(e + log q)``; the class that is
    chosen is ``argmax(e + weights)``.

    Args:
        training: Logarithm of the classes' shares of the training rows, shape ``(C,)``, float64.
        told: Logarithm of the class prior of the probabilities, shape ``(C,)``.
        weights: Weights of the decision, shape ``(C,)``.
        shift: Shape ``(C,)``.
        scale: Above 0.
        calibration: Calibration of the evidence.
    """

    training: Tensor
    told: Tensor
    weights: Tensor
    shift: Tensor
    scale: float = 1.0
    calibration: Calibration = UNCALIBRATED

    def evidence(self, outputs: Tensor) -> Tensor:
        """Give the calibrated evidence e, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return self.calibration.balanced(self.scale * outputs.double() + self.shift, self.training)

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Logarithm of the probabilities under the prior that was asked for, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return (self.evidence(outputs) + self.told).log_softmax(dim=1)

    def log_training(self, outputs: Tensor) -> Tensor:
        """The same under the priors of the training rows, shape ``(N, C)``.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return (self.evidence(outputs) + self.training).log_softmax(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """What is decided by: the class with the highest one is chosen, shape ``(N, C)``, float64.

        Args:
            outputs: Outputs, shape ``(N, C)``.
        """
        return self.evidence(outputs) + self.weights

    def calibrated(self, outputs: Tensor, targets: Tensor) -> "Posterior":
        """Fit the calibration on rows that were not trained on, of whatever class frequencies.

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
        """Add to the weights of the decision.

        Args:
            more: Shape ``(C,)``.
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
    """Put a posterior together from the training rows, the loss, and the class prior that was asked for.

    Args:
        asked: See :func:`~imbsam.decisions.class_prior.log_class_prior`; None: probabilities are told under the
            training priors, and decisions made as if all classes were equally frequent.
        priors: Class priors of the training rows.
        classes: Their names, length C.
        scale: What outputs are multiplied by to be logits.
        training_shift: What then makes them logits of the posterior under the training priors, shape ``(C,)``; None
            where they are that as they come.
        costs: Costs of missing a row of each class, shape ``(C,)``: decisions are those of least expected cost under
            the prior of the probabilities.
        calibration: Calibration of the evidence; under the class prior of the loss, outputs are taken as they come.

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
