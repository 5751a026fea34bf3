"""Operators that a step dispatches beyond a plain one: what a small network pays for, whatever the machine."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from imbsam.optim import CCSAM, SAM, ImbSAM
from imbsam.priors import ClassPriors

ROWS = 64
TAIL = torch.tensor([False, False, True])


class Operators(TorchDispatchMode):
    """Counts what is dispatched, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # How often torch detaches on the way hangs on its version.
        if operator is not torch.ops.aten.detach.default:
            self.found[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def batch(tail_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (ROWS,), generator=draw)
    y[torch.randperm(ROWS, generator=draw)[:tail_rows]] = 2
    return torch.randn(ROWS, 5, generator=draw), y


def dispatched(step: Callable[[Tensor, Tensor], object], tail_rows: int) -> Counter[str]:
    """Of a step that is none of the first, where modules are looked at."""
    for seed in range(3):
        step(*batch(tail_rows, seed))
    with Operators() as counted:
        step(*batch(tail_rows, 3))
    return counted.found


def forward_backwards(model: nn.Module, number: int) -> Callable[[Tensor, Tensor], None]:
    """The forwards and backwards of as many passes, and one step of SGD, with nothing around them."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        sgd.zero_grad()
        for _ in range(number):
            (cross_entropy(model(x), y, reduction="none") * (1 / ROWS)).sum().backward()
        sgd.step()

    return step


def step_of(optimizer: SAM | ImbSAM | CCSAM, model: nn.Module) -> Callable[[Tensor, Tensor], None]:
    def step(x: Tensor, y: Tensor) -> None:
        with optimizer.passes(y) as passes:
            for p in passes:
                rows, classes = p.select(x, y)
                p.backward(cross_entropy(model(rows), classes, reduction="none"))
        optimizer.step()

    return step


@pytest.mark.parametrize(
    ("method", "tail_rows", "passes", "most"), [("imbsam", 0, 1, 1), ("imbsam", 5, 3, 7), ("sam", 5, 2, 0)]
)
def test_a_step_dispatches_few_operators_beyond_its_passes(method: str, tail_rows: int, passes: int, most: int) -> None:
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = ImbSAM(base, TAIL, model=model) if method == "imbsam" else SAM(base, model=model)
    ours = dispatched(step_of(optimizer, model), tail_rows)
    plain = dispatched(forward_backwards(network(), passes), tail_rows)
    assert sum(ours.values()) - sum(plain.values()) <= most, (ours - plain).most_common()


def test_the_number_of_operators_does_not_hang_on_the_number_of_tail_rows() -> None:
    numbers = set()
    for tail_rows in (2, 9, 20):
        model = network()
        optimizer = ImbSAM(torch.optim.SGD(model.parameters(), lr=0.1), TAIL, model=model)
        numbers.add(sum(dispatched(step_of(optimizer, model), tail_rows).values()))
    assert len(numbers) == 1, numbers


def test_the_number_of_operators_of_cc_sam_on_the_classifier_does_not_hang_on_the_number_of_classes() -> None:
    numbers = set()
    for classes in (2, 10, 60):
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, classes))
        priors = ClassPriors(torch.full((classes,), 100))
        optimizer = CCSAM(torch.optim.SGD(model.parameters(), lr=0.1), priors, model=model, classifier="2")
        step = step_of(optimizer, model)
        x, y = torch.randn(ROWS, 5), torch.arange(ROWS) % classes
        for _ in range(3):
            step(x, y)
        with Operators() as counted:
            step(x, y)
        numbers.add(sum(counted.found.values()))
    assert len(numbers) == 1, numbers
