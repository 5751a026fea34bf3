"""Names of the methods on the command line: plain base optimizers and the registered methods."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import get_args

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from imbsam.config import MethodOptions, Options
from imbsam.errors import OptionError
from imbsam.optim import ASCENTS, METHODS, SharpnessAware, create, options_of
from imbsam.optim.registry import PassNumber
from imbsam.priors import ClassPriors

PLAIN = ("sgd", "adamw", "muon")
"""Base optimizers, which are also methods."""

NAMES = (*PLAIN, *(name for name in METHODS if name != "plain"))
"""Methods that train a network."""

ALONE = "sgd"
"""The plain optimizer that stands for all plain ones in a comparison."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "all": (ALONE, *(name for name in METHODS if name != "plain")),
    "plain": PLAIN,
    "all-classes": tuple(name for name, method in METHODS.items() if method.family == "all-classes"),
    "class-aware": tuple(name for name, method in METHODS.items() if method.family == "class-aware"),
    "one-pass": (ALONE, *(n for n, method in METHODS.items() if n != "plain" and method.passes == "one pass")),
}
"""Methods by the name of their family."""

AUTO = "auto"
"""Word for the usual method of the data."""

NETWORK = "imbsam"
"""The usual method of a network."""

BLENDS = ("blend", "boosting", "forest", "logistic")
"""Further methods for tables: a blend of a network, trees and more, or a classifier of scikit-learn alone."""

MEMBERS = "imbsam+boosting+forest+logistic"
"""Members of a blend, unless others are named."""


def base_of(chosen: MethodOptions) -> str:
    """Return the base optimizer's name."""
    return chosen.method if chosen.method in PLAIN else chosen.base


def rho_of(chosen: MethodOptions, usual: float) -> float:
    """Return the neighbourhood size where none is given.

    Args:
        chosen: Name of the method.
        usual: Neighbourhood size that suits the data.

    Raises:
        OptionError: If the method is unknown.
    """
    name = checked_name(chosen.method)
    if name in PLAIN:
        return 0.0
    if name in BLENDS:
        return usual
    return float(str(options_of(name)["rho"])) if METHODS[name].own_length else usual


def checked_name(name: str) -> str:
    """Return a method's name; for ``auto``, that of the usual method of a network.

    Raises:
        OptionError: If there is no such method.
    """
    if name not in (AUTO, *NAMES, *BLENDS):
        known = ", ".join((*NAMES, *BLENDS))
        raise OptionError(f"there is no method {name!r}; there are {known}. See `imbsam methods`.")
    return NETWORK if name == AUTO else name


def usual_method(options: Options, *, is_table: bool) -> Options:
    """Return the options with the usual method where none is named.

    Args:
        options: Options of the run. Some of them choose a network, since only a network takes them.
        is_table: Whether the data are a table, for which not only networks can be trained.
    """
    if options.method.method != AUTO:
        return options
    model, loss = options.model, options.loss
    of_network = (
        model.model not in (AUTO, "mlp"),
        model.weights is not None,
        model.finetune,
        loss.loss != AUTO,
        loss.loss_options,
        loss.label_smoothing,
        loss.reweight_from is not None,
        options.training.average == "ema",
        options.data.sampler not in ("auto", "shuffle"),
        options.method.sharp_from is not None,
        options.method.sharp_recall is not None,
        options.method.anneal_from is not None,
        options.method.perturb != ("all",),
        any(not pair.startswith("members=") for pair in options.method.method_options),
    )
    return options.updated({"method": "blend" if is_table and not any(of_network) else NETWORK})


def passes_of(name: str) -> int:
    """Return a rough measure of a method's work: 1 for a plain step, 2 for some more, 3 for twice as much or more.

    Args:
        name: The method's.

    Raises:
        OptionError: If there is no such method.
    """
    name = checked_name(name)
    if name in PLAIN:
        return 1
    if name in BLENDS:
        # Members beside a network, and after it a calibration; scikit-learn's alone are soon made.
        return 3 if name == "blend" else 1
    return 1 + get_args(PassNumber).index(METHODS[name].passes)


def check_network(name: str, what: str) -> None:
    """Refuse a method that does not train a network by steps.

    Args:
        name: Name of the method.
        what: Name of what needs a network, for the message.

    Raises:
        OptionError: If it is a blend, or one of scikit-learn's classifiers.
    """
    if name in BLENDS:
        raise OptionError(
            f"{what} counts the steps of a network, but --method {name} makes none. Name a "
            "network method, for example --method imbsam."
        )


def make_optimizer(
    chosen: MethodOptions,
    model: nn.Module,
    *,
    priors: ClassPriors,
    tail: Tensor,
    lr: float,
    momentum: float,
    weight_decay: float,
    total_steps: int,
) -> SharpnessAware:
    """Make a method over its base optimizer.

    Raises:
        OptionError: If a name or an option is unknown or out of range.
    """
    name = checked_name(chosen.method)
    own = values_of(chosen.method_options, "--method-options", own_options(name))
    if name in PLAIN:
        name = "plain"
        if chosen.ascent != "default" or chosen.ascent_options:
            raise OptionError(f"{chosen.method} is plain: it takes no --ascent.")
        if chosen.sharp_from:
            raise OptionError(f"{chosen.method} is plain: it takes no --sharp-from.")
        if chosen.sharp_recall:
            raise OptionError(f"{chosen.method} is plain: it takes no --sharp-recall.")
        if chosen.perturb != ("all",):
            raise OptionError(f"{chosen.method} is plain: it takes no --perturb.")
    else:
        statistics = {"batch_statistics": chosen.batch_statistics, "context_rows": chosen.context_rows}
        # The losses here are of each row by itself.
        late = {"sharp_from": round((chosen.sharp_from or 0.0) * total_steps)}
        own = {"rho": chosen.rho, "perturb": chosen.perturb, "check_rows": False, **statistics, **late, **own}
    if chosen.ascent == "default" and chosen.ascent_options:
        raise OptionError(f"--ascent-options need an --ascent: {', '.join(ASCENTS)}.")
    of_ascent = values_of(chosen.ascent_options, "--ascent-options", ascent_options(chosen.ascent))
    if chosen.anneal_from is not None:
        falling = {"anneal_from": round(chosen.anneal_from * total_steps), "anneal_to": total_steps}
        if chosen.ascent == "default" and falling.keys() <= own_options(name).keys():
            own = {**falling, **own}
        elif falling.keys() <= ascent_options(chosen.ascent).keys():
            of_ascent = {**falling, **of_ascent}
        else:
            raise OptionError("--anneal-from belongs to the ascent rise: choose --ascent rise, or --method le-sam.")
    return create(
        name,
        model,
        base=base_of(chosen),
        priors=priors,
        tail=tail,
        ascent=None if chosen.ascent == "default" else chosen.ascent,
        ascent_options=of_ascent,
        total_steps=total_steps,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nonfinite=chosen.nonfinite,
        **own,
    )


def own_options(name: str) -> dict[str, object]:
    """Return a method's own options and their defaults, without rho, which most methods have."""
    if name in BLENDS:
        return {"members": MEMBERS} if name == "blend" else {}
    return {} if name in PLAIN else {k: v for k, v in options_of(name).items() if k != "rho"}


def ascent_options(ascent: str) -> dict[str, object]:
    """Return an ascent's options and their defaults; none for an unknown ascent."""
    return {p.name: p.default for p in signature(ASCENTS[ascent]).parameters.values()} if ascent in ASCENTS else {}


LAYERS = frozenset({"classifier"})
"""Options without a default whose value is the name of a layer."""


def values_of(pairs: Sequence[str], option: str, defaults: Mapping[str, object]) -> dict[str, object]:
    """Read pairs of the form NAME=VALUE.

    Args:
        pairs: Pairs as the user typed them.
        option: Name of the command-line option, for the message.
        defaults: Known names and their defaults; a value must have the type of its default. Where that is None, it is a
            whole number, except for :data:`LAYERS`.

    Raises:
        OptionError: If one is not a pair, its name is unknown, or its value has another type.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise OptionError(f"{option} {pair}: give NAME=VALUE, for example alpha=0.4.")
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise OptionError(f"{option} {pair}: there is no option {name!r}; there are: {known}.")
        kind = type(defaults[name]) if defaults[name] is not None else str if name in LAYERS else int
        try:
            values[name] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise OptionError(f"{option} {pair}: {error.errors()[0]['msg'].lower()}.") from None
    return values


def with_own_options(options: Options, values: Mapping[str, object]) -> Options:
    """Replace options by name, including the method's and its ascent's own options.

    Args:
        options: Options to start from.
        values: Values by name; ``method`` and ``ascent`` decide whose own options are allowed.

    Returns:
        The options, the method's own among ``method_options`` and the ascent's among ``ascent_options``.

    Raises:
        OptionError: If a name is unknown or a value out of range.
    """
    general = options.flat()
    name = checked_name(str(values.get("method", options.method.method)))
    ascent = str(values.get("ascent", options.method.ascent))
    of_method, of_ascent = own_options(name), ascent_options(ascent)
    kept: dict[str, object] = {}
    own: dict[str, list[str]] = {"method_options": [], "ascent_options": []}
    for key, value in values.items():
        place = None if key in general else "method_options" if key in of_method else "ascent_options"
        if place is None or (place == "ascent_options" and key not in of_ascent):
            kept[key] = value
        else:
            own[place].append(f"{key}={value}")
    kept.update({place: [*options.flat()[place], *pairs] for place, pairs in own.items() if pairs})  # type: ignore[misc]
    return options.updated(kept)
