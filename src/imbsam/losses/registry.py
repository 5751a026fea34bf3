"""Registry of the losses by name."""

from collections.abc import Mapping
from inspect import signature

from torch import nn

from imbsam.errors import OptionError
from imbsam.losses.balanced_softmax import BalancedSoftmax
from imbsam.losses.class_balanced import ClassBalanced
from imbsam.losses.cross_entropy import CrossEntropy
from imbsam.losses.focal import Focal
from imbsam.losses.ldam import LDAM
from imbsam.losses.logit_adjustment import LogitAdjustment
from imbsam.losses.vector_scaling import VectorScaling
from imbsam.priors import ClassPriors

LOSSES: Mapping[str, type[nn.Module]] = {
    "cross-entropy": CrossEntropy,
    "focal": Focal,
    "class-balanced": ClassBalanced,
    "ldam": LDAM,
    "balanced-softmax": BalancedSoftmax,
    "logit-adjustment": LogitAdjustment,
    "vs": VectorScaling,
}


def build(name: str, priors: ClassPriors, *, options: Mapping[str, float] = {}) -> nn.Module:
    """Make a loss by its name.

    Args:
        name: One of :data:`LOSSES`.
        priors: Class priors of the training data; ignored by losses that do not depend on them.
        options: Values for some of :func:`default_options`.

    Returns:
        A criterion, which takes logits ``(B, C)`` and int64 targets ``(B,)`` and returns losses ``(B,)``.

    Raises:
        OptionError: If the name or an option is unknown, or a value is out of range.
        PriorsError: If the loss needs a sample of every class and a class has none.
    """
    known = default_options(name)
    for option in options:
        if option not in known:
            takes = f"its options are {', '.join(known)}" if known else "it has no options"
            raise OptionError(f"the loss {name} has no option {option!r}; {takes}.")
    loss = LOSSES[name]
    return loss(priors, **options) if "priors" in signature(loss).parameters else loss(**options)


def default_options(name: str) -> dict[str, float]:
    """Return the options of a loss and their defaults.

    Args:
        name: One of :data:`LOSSES`.

    Returns:
        Default value by option name.

    Raises:
        OptionError: If the name is unknown.
    """
    parameters = signature(_known(name)).parameters.values()
    return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}


def needs_cosine_classifier(name: str) -> bool:
    """Return whether a loss takes cosines as logits, so that the model must end in a ``CosineClassifier``.

    Args:
        name: One of :data:`LOSSES`.

    Returns:
        True for ``"ldam"``.

    Raises:
        OptionError: If the name is unknown.
    """
    return _known(name) is LDAM


def output_scale(name: str, options: Mapping[str, float] = {}) -> float:
    """Return the factor that turns a model's outputs into logits: the scale of the loss for cosines, else 1.

    Without it every probability of a cosine classifier would be near 1 / C.

    Args:
        name: One of :data:`LOSSES`.
        options: Values for some of :func:`default_options`.

    Returns:
        The factor.

    Raises:
        OptionError: If the name is unknown.
    """
    return {**default_options(name), **options}["scale"] if needs_cosine_classifier(name) else 1.0


def _known(name: str) -> type[nn.Module]:
    if name not in LOSSES:
        raise OptionError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}.")
    return LOSSES[name]
