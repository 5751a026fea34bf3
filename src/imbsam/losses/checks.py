"""Checks that every loss makes of its options, its class priors and its logits."""

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from imbsam.errors import OptionError, PriorsError
from imbsam.priors import ClassPriors


def checked_option(name: str, value: float, rule: str, holds: Callable[[float], bool] = math.isfinite) -> float:
    """Return a finite number that follows its rule.

    Args:
        name: Name of the option, for the message.
        value: Value of the option.
        rule: The rule in words, such as "of at least 0".
        holds: The rule as a test of a finite number.

    Returns:
        ``value`` as a float.

    Raises:
        OptionError: If ``value`` is not a finite number or breaks the rule.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and holds(value)):
        raise OptionError(f"{name} must be a number {rule}; got {value!r}.")
    return float(value)


def positive_counts(priors: ClassPriors, loss: str) -> Tensor:
    """Return the counts of priors in which every class has a training sample.

    Args:
        priors: Class priors of the training data.
        loss: Name of the loss, for the message.

    Returns:
        Samples per class, shape ``(C,)``, float64, all positive.

    Raises:
        PriorsError: If a class has no training sample: its margin, weight or log prior would be infinite.
    """
    empty: list[int] = (priors.counts == 0).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        raise PriorsError(
            f"{loss} needs at least one training sample of every class; class {named} has none "
            f"({len(empty)} of {priors.num_classes} classes). Leave such classes out, or use cross-entropy."
        )
    return priors.counts.double()


def checked_logits(logits: Tensor, num_classes: int) -> Tensor:
    """Return logits in at least float32, with one column for each class of the priors.

    Args:
        logits: Logits, shape ``(B, C)``.
        num_classes: Number of classes C of the priors.

    Returns:
        The logits, in float32 if they were in half precision.

    Raises:
        PriorsError: If there are more or fewer columns than classes.
    """
    if logits.ndim != 2 or logits.shape[1] != num_classes:
        raise PriorsError(
            f"logits of shape {tuple(logits.shape)} do not fit priors of {num_classes} classes: "
            f"the model must return (B, {num_classes})."
        )
    return at_least_float32(logits)


def at_least_float32(logits: Tensor) -> Tensor:
    """Return logits in float32 if they are in half precision, else unchanged."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def fitting_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """Return classes unchanged, and memberships in the dtype of the logits.

    Args:
        targets: Classes ``(B,)``, int64, or probabilities ``(B, C)``.
        logits: Logits, shape ``(B, C)``.
    """
    return targets.to(logits.dtype) if targets.is_floating_point() else targets


def class_targets(targets: Tensor, loss: str) -> Tensor:
    """Return targets that are classes.

    Args:
        targets: Targets given to the loss.
        loss: Name of the loss, for the message.

    Returns:
        ``targets``.

    Raises:
        OptionError: If the targets are probabilities of the classes.
    """
    if targets.is_floating_point():
        raise OptionError(
            f"{loss} needs the class of each row, but targets are {targets.dtype} of shape {tuple(targets.shape)}. "
            "For mixed rows use lam * criterion(logits, y_a) + (1 - lam) * criterion(logits, y_b); the other losses "
            "take probabilities."
        )
    return targets
