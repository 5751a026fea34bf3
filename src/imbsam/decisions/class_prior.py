"""Assumed class frequencies: those of training, equal ones, those that the loss aims at, or the user's."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.priors import ClassPriors

Named = Literal["training", "balanced", "loss"]
NAMED: tuple[Named, ...] = ("training", "balanced", "loss")

ClassPrior = str | Mapping[object, float] | ArrayLike | None
"""One of :data:`NAMED`, a frequency for each class by its name or in the order of the classes, or None."""

FLOOR = 1e-9
"""Frequency of a class without a training sample, under every prior: it is so small that the class is never chosen."""


def log_training_priors(priors: ClassPriors) -> Tensor:
    """Return the log shares of the classes among the training rows, finite, shape ``(C,)``, float64."""
    return priors.priors.clamp_min(FLOOR).log()


def shift_of_drawn(
    shift: Tensor | None, priors: ClassPriors, sampler: str, repeat_threshold: float | None = None
) -> Tensor | None:
    """Return the shift of a loss, corrected for a sampler that changed how often the loss saw each class.

    Args:
        shift: Shift of the loss, see :func:`imbsam.losses.training_shift`, shape ``(C,)``; None for none.
        priors: Class priors of the training rows.
        sampler: ``"balanced"`` showed the loss all classes equally often, ``"square-root"`` by the roots of their
            counts, ``"repeated"`` the rare ones more often, and any other sampler as often as they occur.
        repeat_threshold: Threshold of ``"repeated"``, see :meth:`imbsam.priors.ClassPriors.repeat_factors`.
    """
    training = log_training_priors(priors)
    if sampler == "balanced":
        drawn = training
    elif sampler == "square-root":
        drawn = training / 2
    elif sampler == "repeated":
        drawn = -priors.repeat_factors(repeat_threshold).log()
    else:
        return shift
    return drawn + (0.0 if shift is None else shift.double().cpu())


def log_class_prior(
    asked: ClassPrior, priors: ClassPriors, classes: Sequence[object], training_shift: Tensor | None = None
) -> Tensor:
    """Return the logarithm of a class prior.

    Args:
        asked: ``"training"`` for the frequencies of the training rows, ``"balanced"`` for equal ones, ``"loss"`` for
            those that the loss aims at, under which a network's outputs are used unchanged; or a frequency above 0 for
            each class, by its name or in the order of ``classes``. Frequencies are divided by their sum.
        priors: Class priors of the training rows.
        classes: Names of the classes, length C.
        training_shift: Training shift of the loss, see :func:`imbsam.losses.training_shift`, shape ``(C,)``; None for
            none.

    Returns:
        Tensor of shape ``(C,)``, float64.

    Raises:
        OptionError: If there is no such name, or the frequencies are not one above 0 for each class.
    """
    training = log_training_priors(priors)
    if not isinstance(asked, str):
        return _frequencies(asked, classes).log()
    if asked == "training":
        return training
    if asked == "balanced":
        seen = (priors.counts > 0).double()
        return (seen / seen.sum()).clamp_min(FLOOR).log()
    if asked == "loss":
        return training if training_shift is None else training - training_shift.double().cpu()
    raise OptionError(f"class_prior is one of {', '.join(NAMED)}, or a frequency for each class; got {asked!r}.")


def parsed_class_prior(words: Sequence[str]) -> ClassPrior:
    """Read a class prior from the words of the command line.

    Args:
        words: ``["auto"]``, which gives None, one of :data:`NAMED`, or ``CLASS=FREQUENCY`` for each class.

    Raises:
        OptionError: If a word is not one of these.
    """
    if not words:
        raise OptionError("--class-prior: no class prior was given.")
    if len(words) == 1 and "=" not in words[0]:
        if words[0] not in ("auto", *NAMED):
            raise OptionError(
                f"--class-prior {words[0]}: give auto, {', '.join(NAMED)}, or CLASS=FREQUENCY for each class."
            )
        return None if words[0] == "auto" else words[0]
    found: dict[object, float] = {}
    found.update(parsed_numbers("--class-prior", words, "CLASS=FREQUENCY"))
    return found


def parsed_numbers(option: str, words: Sequence[str], form: str) -> dict[str, float]:
    """Read words of the form ``NAME=NUMBER``; a name may contain ``=`` itself.

    Raises:
        OptionError: If a word has another form, or a name is given twice.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, value = word.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            name = ""
        if not name:
            raise OptionError(f"{option} {word}: give {form}.")
        if name in found:
            raise OptionError(f"{option}: {name} is given twice.")
        found[name] = number
    return found


def _frequencies(asked: Mapping[object, float] | ArrayLike | None, classes: Sequence[object]) -> Tensor:
    if isinstance(asked, Mapping):
        unknown = [name for name in asked if name not in classes]
        missing = [name for name in classes if name not in asked]
        if unknown or missing:
            wrong = f"there is no class {unknown[0]!r}" if unknown else f"the class {missing[0]!r} has no frequency"
            shown = ", ".join(str(name) for name in classes[:20])
            raise OptionError(f"class_prior: {wrong}. Give one for each of the {len(classes)} classes: {shown}.")
        asked = [asked[name] for name in classes]
    try:
        values = torch.from_numpy(np.asarray(asked, dtype=np.float64))
    except (TypeError, ValueError):
        raise OptionError(f"class_prior must be a frequency for each class; got {asked!r}.") from None
    if values.shape != (len(classes),):
        raise OptionError(
            f"class_prior must be {len(classes)} frequencies, one for each class; got {tuple(values.shape)}."
        )
    if not ((values > 0) & values.isfinite()).all():
        place = int((~((values > 0) & values.isfinite())).nonzero()[0])
        raise OptionError(
            f"class_prior: the frequency of {classes[place]!r} must be above 0 and finite; got {float(values[place])}. "
            "For a class that hardly occurs give a small one, for example 1e-6."
        )
    return values / values.sum()
