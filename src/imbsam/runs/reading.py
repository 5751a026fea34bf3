"""Posterior of a run's outputs: a calibration and thresholds, found on validation data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.config import DecisionOptions
from imbsam.decisions import Posterior, parsed_wanted, prices, wanted_weights
from imbsam.errors import OptionError
from imbsam.metrics import Metrics, classification
from imbsam.priors import ShotGroup
from imbsam.runs.records import Read

AS_THEY_COME = ("loss",)
"""Class prior under which outputs are used unchanged, without calibration."""

Outputs = tuple[Tensor, Tensor]
"""Outputs ``(N, C)`` for samples, and their classes ``(N,)``."""


def check_wanted(decision: DecisionOptions, classes: tuple[str, ...], validation: Tensor | None) -> None:
    """Check before training that thresholds for the goals can be found.

    Args:
        decision: Options of the decision.
        classes: Names of the classes, length C.
        validation: Classes of the validation samples, shape ``(N,)``; None without any.

    Raises:
        OptionError: If there is no such class, or no validation sample of it.
    """
    for wanted in parsed_wanted(decision.at_least, classes):
        if validation is None or not bool((validation == wanted.index).any()):
            raise OptionError(
                f"--at-least {wanted}: the threshold is found on validation data, which have no sample of this class. "
                "Hold out more by --validation-fraction."
            )


def learnt_reading(
    posterior: Posterior,
    decision: DecisionOptions,
    classes: tuple[str, ...],
    validation: Outputs | None,
    *,
    is_calibrated: bool,
) -> Read:
    """Calibrate, and find the thresholds for the goals.

    Args:
        posterior: Posterior as far as it is known without validation data.
        decision: Options of the decision; under the class prior of the loss the outputs are used unchanged.
        classes: Names of the classes, length C.
        validation: Outputs and classes of held-out samples; None without any.
        is_calibrated: Whether the outputs are calibrated already, as a blend's are.

    Raises:
        OptionError: If a goal cannot be reached, or there are no validation data to find its threshold.
    """
    wanted = parsed_wanted(decision.at_least, classes)
    check_wanted(decision, classes, None if validation is None else validation[1])
    if validation is None:
        return Read()
    if decision.class_prior != AS_THEY_COME and not is_calibrated:
        posterior = posterior.calibrated(*validation)
    if not wanted:
        return Read(posterior.calibration)
    outputs, targets = validation
    before = posterior.scores(outputs)
    weights = wanted_weights(before, targets, wanted)
    paid = prices(before, before + weights, targets, wanted)
    return Read(posterior.calibration, tuple(weights.tolist()), tuple(map(str, paid)))


def with_weights(posterior: Posterior, read: Read) -> Posterior:
    """Return a posterior whose decisions reach the goals of the classes."""
    return posterior.weighted(torch.tensor(read.weights, dtype=torch.float64)) if read.weights else posterior


def measured(
    posterior: Posterior, scored: Outputs, groups: tuple[ShotGroup, ...], tail: Sequence[bool] | Tensor
) -> Metrics:
    """Compute metrics of the decisions; log loss and calibration are under the training priors, to be comparable."""
    outputs, targets = scored
    return classification(posterior.log_training(outputs), targets, groups, tail=tail, scores=posterior.scores(outputs))


def measured_likeliest(
    posterior: Posterior, scored: Outputs, groups: tuple[ShotGroup, ...], tail: Sequence[bool] | Tensor
) -> Metrics:
    """Compute metrics if each sample were given its most probable class, with class priors as in training."""
    outputs, targets = scored
    return classification(posterior.log_training(outputs), targets, groups, tail=tail)
