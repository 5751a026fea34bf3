"""Create a method by its name, with its base optimizer, its ascent and the class priors it needs."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import get_type_hints

from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim.ascent import Ascent
from imbsam.optim.bases import make_base
from imbsam.optim.registry import ASCENTS, Method, known_method
from imbsam.priors import ClassPriors


def create(
    name: str,
    model: nn.Module,
    *,
    base: str | Base = "sgd",
    priors: ClassPriors | None = None,
    tail: Tensor | None = None,
    ascent: str | Ascent | None = None,
    ascent_options: Mapping[str, object] | None = None,
    total_steps: int | None = None,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    **options: object,
) -> SharpnessAware:
    """Create a method over a base optimizer, for a model.

    Args:
        name: One of :data:`METHODS`.
        model: Model whose parameters that require a gradient are optimised.
        base: ``"sgd"``, ``"adamw"``, ``"adam"``, ``"rmsprop"`` or ``"muon"``; or an instance or a list of several, to
            which ``lr``, ``momentum`` and ``weight_decay`` do not apply. ``"muon"`` is Muon for the 2-D weights of
            hidden layers and AdamW for the rest; its update is scaled to the size of AdamW's
            (``adjust_lr_fn="match_rms_adamw"``), so give the learning rate and weight decay of AdamW.
        priors: Class priors of the training data; class-aware methods need them.
        tail: Tail classes, bool, shape ``(C,)``; by default those of ``priors`` with fewer than 20 samples.
        ascent: Rule for the direction, a name of :data:`ASCENTS` or an instance; by default the method's own.
        ascent_options: Options of a rule given by name.
        total_steps: Number of steps of the run. ``sse-sam`` stops perturbing the head after 0.7 of them, ``sam-drw``
            re-weights after 0.8, ``le-sam`` lowers sigma from 0.8 on, and ``gnm`` halves its noise after 59/70.
        lr: Learning rate.
        momentum: Momentum of sgd, rmsprop and muon.
        weight_decay: Weight decay of the base optimizer.
        options: Options of the method, see :func:`options_of`, and of :class:`SharpnessAware`.

    Returns:
        The optimizer.

    Raises:
        OptionError: If a name or an option is unknown, out of range, or missing.

    Example:
        >>> optimizer = create("focal-sam", model, priors=priors, lr=0.1, rho=0.2)  # doctest: +SKIP
    """
    method = known_method(name)
    if isinstance(base, str):
        base = make_base(base, model, lr=lr, momentum=momentum, weight_decay=weight_decay)
    given = dict(options)
    if ascent_options and not isinstance(ascent, str):
        raise OptionError(f"ascent_options need an ascent by name: {', '.join(ASCENTS)}.")
    if ascent is not None:
        given["ascent"] = make_ascent(ascent, ascent_options or {})
    parameters = signature(method.kind).parameters
    if "ascent" in given and "ascent" not in parameters:
        raise OptionError(f"{name} has its own ascent; choose sam or imbsam to use another one.")
    known = {p.name for p in parameters.values() if p.kind is Parameter.KEYWORD_ONLY} | set(get_type_hints(Common))
    unknown = [option for option in given if option not in known]
    if unknown:
        listed = ", ".join(sorted(known - {"radii"}))
        raise OptionError(f"{name} has no option {unknown[0]!r}; its options are {listed}.")
    arguments = _class_arguments(name, method, priors, tail)
    if total_steps is not None:
        given = {**{option: round(share * total_steps) for option, share in method.late.items()}, **given}
    return method.kind(base, *arguments, model=model, **given)  # type: ignore[arg-type]


def make_ascent(ascent: str | Ascent, options: Mapping[str, object]) -> Ascent:
    """Make a rule for the direction of the perturbation by its name.

    Raises:
        OptionError: If the name or an option is unknown or out of range.
    """
    if isinstance(ascent, Ascent):
        return ascent
    if ascent not in ASCENTS:
        raise OptionError(f"there is no ascent {ascent!r}; there are {', '.join(ASCENTS)}.")
    known = signature(ASCENTS[ascent]).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        raise OptionError(f"the ascent {ascent} has no option {unknown[0]!r}; its options are {', '.join(known)}.")
    return ASCENTS[ascent](**options)


def _class_arguments(name: str, method: Method, priors: ClassPriors | None, tail: Tensor | None) -> list[object]:
    """Return the arguments that a class-aware method takes after the base optimizer."""
    if method.classes is None:
        return []
    if tail is not None and "tail" in signature(method.kind).parameters:
        if priors is not None and len(tail) != priors.num_classes:
            raise OptionError(f"tail marks {len(tail)} classes, and the priors have {priors.num_classes}.")
        return [tail]
    if priors is None:
        raise OptionError(f"{name} needs class priors: give priors=ClassPriors.from_targets(train_targets).")
    return [method.classes(priors)]
