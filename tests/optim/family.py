"""What the tests of the family share: made by name, several groups, followed step by step by a textbook loop."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import oracles
from cases import TAIL, Case
from imbsam import ClassPriors
from imbsam.optim import SharpnessAware, create
from optim.loops import adamw, assert_gradients_close, gradients, sgd, take_step

COUNTS = [40, 30, 20, 6, 1]
PRIORS = ClassPriors.from_counts(COUNTS)
BASES: dict[str, tuple[Callable[..., Optimizer], Callable[[], oracles.SGD | oracles.AdamW]]] = {
    "sgd": (sgd, lambda: oracles.SGD(0.1, 0.9, 0.01)),
    "adamw": (adamw, lambda: oracles.AdamW(0.01, (0.9, 0.999), 1e-6, 0.1)),
}
GROUPS = ("one group", "several groups")
BASE_AND_GROUPS = pytest.mark.parametrize(("base", "groups"), [("sgd", "several groups"), ("adamw", "one group")])
"""Each once: what a base makes of its gradient is no matter of the groups that the gradient came from."""

OF_ONE_PASS = ("msam", "gnm")
"""Methods whose direction costs no pass; of msam's there is none in the first step."""
AWAY = ("tail-sam-a", "sampa", *OF_ONE_PASS)
"""Methods that forward some rows at the perturbed weights alone, where rows do not see each other."""

GradientOf = Callable[[Sequence[Tensor], oracles.LossesOf, Tensor], oracles.Grads]
"""From parameters, losses of rows and targets to the gradient that the base optimizer gets."""

GRADIENTS: dict[str, Callable[[Sequence[Tensor], oracles.LossesOf, Tensor, Sequence[float]], oracles.Grads]] = {
    "sam": lambda params, losses_of, y, rhos: oracles.sam_gradient(params, losses_of, len(y), rhos),
    "imbsam": lambda params, losses_of, y, rhos: oracles.imbsam_gradient(params, losses_of, TAIL[y], rhos),
}
"""Of the textbook loops, by method; with the rho of each parameter."""


def halves(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters in the model's order, cut in the middle."""
    params: list[Tensor] = list(model.parameters())
    middle = (len(params) + 1) // 2
    return params[:middle], params[middle:]


def grouped(model: nn.Module, groups: str, *rhos: float) -> tuple[list[dict[str, object]], list[float]]:
    """Groups of the model's parameters, and the rho of each parameter: all the first, or each half its own."""
    first, second = halves(model)
    if groups == "one group":
        return [{"params": first + second, "rho": rhos[0]}], [rhos[0]] * len(first + second)
    each = [rhos[0]] * len(first) + [rhos[-1]] * len(second)
    return [{"params": first, "rho": rhos[0]}, {"params": second, "rho": rhos[-1]}], each


def group_indices(model: nn.Module, groups: str) -> list[list[int]]:
    first, second = halves(model)
    numbers = list(range(len(first + second)))
    return [numbers] if groups == "one group" else [numbers[: len(first)], numbers[len(first) :]]


def made(
    name: str, model: nn.Module, *, base: str = "sgd", groups: str = "one group", rho: float = 0.3, **options: Any
) -> SharpnessAware:
    """A registered method over a base; of several groups the second is not perturbed and learns at another rate."""
    given, _ = grouped(model, groups, rho, 0.0)
    if groups != "one group":
        given[1]["lr"] = 0.02
    make = BASES[base][0]
    return create(name, model, base=make(given), priors=PRIORS, tail=TAIL, **{"check_rows": False, **options})


def assert_follows(
    optimizer: SharpnessAware,
    model: nn.Module,
    case: Case,
    gradient_of: GradientOf,
    *,
    base: str = "sgd",
    batches: Sequence[tuple[Tensor, Tensor]] | None = None,
    at_the_weights: bool = True,
) -> None:
    """Step for step, gradients and weights are those of the textbook loop, and the loss is the batch's mean at w.

    Both draw the same random numbers, if any: torch's generator is set before each step.
    """
    twin = case.model()
    params, written_out = list(twin.parameters()), BASES[base][1]()
    for step, (x, y) in enumerate(batches or case.batches()):

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return case.loss(twin(x[rows]), y[rows])

        with torch.no_grad():
            loss = losses_of(torch.arange(len(y))).mean()
        torch.manual_seed(step)
        grads = gradient_of(params, losses_of, y)
        written_out.step(params, grads)
        torch.manual_seed(step)
        returned = take_step(optimizer, model, case.loss, (x, y))
        if at_the_weights:
            torch.testing.assert_close(returned, loss, atol=1e-12, rtol=0)
        assert_gradients_close(gradients(model), grads)
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)
