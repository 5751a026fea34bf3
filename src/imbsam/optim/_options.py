"""Options that every method has, and their allowed values."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypedDict, get_args

from torch import nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim._numbers import check_number
from imbsam.optim._plan import BatchStatistics

OnNonFinite = Literal["raise", "skip", "unchecked"]
Climb = Literal["together", "apart"]
Rows = Literal["needed", "all"]
CHOICES = {
    "batch_statistics": get_args(BatchStatistics),
    "rows": get_args(Rows),
    "nonfinite": get_args(OnNonFinite),
    "climb": get_args(Climb),
}

_RAISES_WITHOUT_CLOSURE = re.compile(
    r"(if\s+(closure\s+is\s+None|not\s+closure)\s*:\s*(#[^\n]*\s*)*raise\b)|(assert\s+closure\s+is\s+not\s+None)"
)
_SECOND_ORDER = {"compute_hutchinson_hessian", "set_hessian", "get_trace", "hutchinson_trace"}


class Common(TypedDict, total=False):
    """Options that every method passes on to :class:`SharpnessAware`."""

    model: nn.Module | None
    batch_statistics: BatchStatistics
    context_rows: int | None
    row_multiple: int
    rows: Rows
    check_rows: bool
    nonfinite: OnNonFinite
    climb: Climb
    sharp_from: int
    perturb: str | Sequence[str]


def check_base(base: Optimizer) -> None:
    """Refuse a base optimizer that cannot make a step along a gradient in ``.grad``."""
    if not isinstance(base, Optimizer):
        raise OptionError(f"base must be an optimizer instance, such as SGD(model.parameters(), lr=0.1); got {base!r}.")
    if "rho" in base.defaults:
        raise OptionError(
            f"{type(base).__name__} has an option rho of its own, which would be confused with the neighbourhood size: "
            "choose another base optimizer."
        )
    name, step = type(base).__name__, inspect.unwrap(type(base).step)
    parameters = inspect.signature(base.step).parameters
    closure = parameters.get("closure")
    if (closure is not None and closure.default is inspect.Parameter.empty) or _RAISES_WITHOUT_CLOSURE.search(
        _source(step)
    ):
        raise OptionError(
            f"{name} evaluates the loss itself, by a closure, but the gradient here is made by passes beforehand: "
            "choose a base that steps along a gradient, such as SGD or AdamW."
        )
    # By what such steps are known to take, to call and to say of themselves.
    graph = "hessian" in parameters or _SECOND_ORDER & {*step.__code__.co_names}
    if graph or getattr(base, "is_second_order", False) or any(g.get("differentiable") for g in base.param_groups):
        raise OptionError(
            f"{name} {'with differentiable=True ' if not graph else ''}needs the graph of the gradient, and what the "
            "passes leave in .grad has none: choose a base that steps along a gradient, such as SGD or AdamW, and "
            "leave "
            "differentiable=False."
        )


def _source(function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def check_choices(given: Mapping[str, str]) -> None:
    """Check that each option is one of its :data:`CHOICES`."""
    for name, value in given.items():
        *others, last = map(repr, CHOICES[name])
        if value not in CHOICES[name]:
            raise OptionError(f"{name} must be {', '.join(others)} or {last}; got {value!r}.")


def check_numbers(given: Mapping[str, int | None]) -> None:
    """Check that each number, if given, is at least 1."""
    for name, number in given.items():
        if number is not None:
            check_number(name, number, least=1, whole=True)
