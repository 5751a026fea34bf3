"""Options that are numbers: every one of every method and every ascent refuses what is no number."""

from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

from cases import TAIL
from imbsam.errors import OptionError
from imbsam.optim import METHODS, SAM, create
from imbsam.optim._numbers import check_number
from imbsam.optim.registry import ASCENTS, options_of
from optim.family import PRIORS

NO_NUMBERS = [None, "0.1", True, torch.tensor(0.1), [0.1], float("nan"), 1j]


def numbers(options: dict[str, object]) -> list[str]:
    return [name for name, value in options.items() if isinstance(value, int | float) and not isinstance(value, bool)]


OF_METHODS = [(name, option) for name in METHODS for option in numbers(options_of(name))]
OF_ASCENTS = [
    (name, option)
    for name, make in ASCENTS.items()
    for option in numbers({p.name: p.default for p in signature(make).parameters.values()})
]


@pytest.mark.parametrize(("name", "option"), OF_METHODS)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_an_option_of_a_method_that_is_no_number_is_refused_by_name(name: str, option: str, value: object) -> None:
    model = nn.Linear(2, 5)
    with pytest.raises(OptionError, match=f"^{option} must be"):
        create(name, model, priors=PRIORS, tail=TAIL, **{option: value})


@pytest.mark.parametrize(("name", "option"), OF_ASCENTS)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_an_option_of_an_ascent_that_is_no_number_is_refused_by_name(name: str, option: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"^{option} must be"):
        ASCENTS[name](**{option: value})


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_a_radius_of_a_group_that_is_no_number_is_refused_when_it_is_used(value: object) -> None:
    p, q = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1))
    with pytest.raises(OptionError, match=r"^rho must be finite and at least 0; got"):
        optimizer.add_param_group({"params": [q], "rho": value})
    optimizer.param_groups[0]["rho"] = value
    with pytest.raises(OptionError, match=r"^rho must be finite and at least 0; got"):
        optimizer.passes(torch.zeros(2, dtype=torch.long))


def test_numbers_of_numpy_are_numbers() -> None:
    check_number("rho", np.float32(0.1), least=0)
    check_number("interval", np.int64(3), least=1, whole=True)


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (2.5, {"least": 1, "whole": True}, "x must be a whole number, at least 1; got 2.5"),
        (1.0, {"least": 0, "below": 1}, "x must be at least 0 and below 1; got 1.0"),
        (0, {"above": 0}, "x must be finite and above 0; got 0"),
        ("0.1", {}, "x must be finite; got '0.1'"),
    ],
    ids=str,
)
def test_the_error_says_what_is_allowed(value: object, bounds: dict[str, float], said: str) -> None:
    with pytest.raises(OptionError, match=f"^{said}"):
        check_number("x", value, **bounds)
