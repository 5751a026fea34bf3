"""Targets as people have them: classes of any type, soft targets, several labels; what is neither is refused in words."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import oracles
from cases import BATCH_NORM, CLASSES, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.optim import METHODS
from optim.family import COUNTS, made
from optim.loops import assert_gradients_close, gradients

GO_BY_CLASSES = tuple(name for name, method in METHODS.items() if method.kind.class_aware)
BLIND = tuple(name for name in METHODS if name not in GO_BY_CLASSES)
ONE_HOT = F.one_hot(HEAD_AND_TAIL, CLASSES)

SOFT = torch.tensor(
    [
        [0.7, 0.0, 0.0, 0.3, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.25, 0.75],
        [0.1, 0.2, 0.3, 0.15, 0.25],
        [0.0, 0.5, 0.5, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.4, 0.0, 0.0, 0.0, 0.6],
    ],
    dtype=torch.float64,
)
LABELS = torch.tensor(
    [
        [1.0, 1.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 1.0],
        [0.8, 0.0, 0.0, 0.3, 0.6],
        [1.0, 1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.4, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
    ],
    dtype=torch.float64,
)


def mixed_loss(logits: Tensor, memberships: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, memberships, reduction="none").sum(1)


def inputs(case: Case, rows: int) -> Tensor:
    return case.inputs(torch.arange(rows) % CLASSES, torch.Generator().manual_seed(5))


# Row by row, as the documentation has it; nothing of it is the library's.

Rows = Sequence[Sequence[float]]


def is_soft(row: Sequence[float]) -> bool:
    return abs(sum(row) - 1) <= 0.01


def share(row: Sequence[float], values: Sequence[float]) -> float:
    """The mean of the classes' values by a soft row; by the label that has most of it in any other row."""
    each = [m * v for m, v in zip(row, values, strict=True)]
    return sum(each) / sum(row) if is_soft(row) else max(each)


def by_row(memberships: Rows, values: Sequence[float]) -> Tensor:
    return torch.tensor([share(row, values) for row in memberships], dtype=torch.float64)


def parts_of_classes(memberships: Rows) -> list[list[float]]:
    return [[m / sum(row) if sum(row) else 0.0 for m in row] for row in memberships]


def imbsam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    tail, n = by_row(memberships, TAIL.double().tolist()), len(memberships)
    return [oracles.Addend((1 - tail) / n), oracles.Addend(tail / n, tail / n, [rho])]


def sse_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    tail, n = by_row(memberships, TAIL.double().tolist()), len(memberships)
    head = 1 - tail
    return [oracles.Addend(head / n, head / n, [0.1]), oracles.Addend(tail / n, tail / n, [rho])]


def focal_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    total, n = sum(COUNTS), len(memberships)
    focal = by_row(memberships, [0.7 * (1 - count / total) ** 2.0 for count in COUNTS])
    return [oracles.Addend((1 - focal) / n), oracles.Addend(focal / n, focal / n, [rho])]


def weighted(weights: Sequence[float]) -> Callable[[Rows, float], list[oracles.Addend]]:
    def addends(memberships: Rows, rho: float) -> list[oracles.Addend]:
        each = [
            sum(m * v for m, v in zip(row, weights, strict=True)) / sum(row) if sum(row) else 1.0 for row in memberships
        ]
        rows = torch.tensor(each, dtype=torch.float64) / len(memberships)
        return [oracles.Addend(rows, rows, [rho])]

    return addends


def cc_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    n, flat = len(memberships), by_row(memberships, [0.3] * CLASSES)
    addends = [oracles.Addend((1 - flat) / n)]
    parts = torch.tensor(parts_of_classes(memberships), dtype=torch.float64)
    for c, count in enumerate(COUNTS):
        if parts[:, c].sum() > 0:
            mean = parts[:, c] / parts[:, c].sum()
            addends.append(oracles.Addend(flat * parts[:, c] / n, mean, [rho * max(1, count - 1) ** -0.25]))
    return addends


def class_balanced(beta: float = 0.9999) -> list[float]:
    each = [(1 - beta) / (1 - beta**count) for count in COUNTS]
    return [v * len(COUNTS) / sum(each) for v in each]


def inverse_roots() -> list[float]:
    each = [count**-0.5 for count in COUNTS]
    mean = sum(v * count for v, count in zip(each, COUNTS, strict=True)) / sum(COUNTS)
    return [v / mean for v in each]


ADDENDS: dict[str, tuple[Callable[[Rows, float], list[oracles.Addend]], dict[str, object]]] = {
    "imbsam": (imbsam, {}),
    "sse-sam": (sse_sam, {"head_rho": 0.1}),
    "focal-sam": (focal_sam, {"gamma": 2.0, "strength": 0.7}),
    "cc-sam": (cc_sam, {"flat": 0.3}),
    "sam-drw": (weighted(class_balanced()), {}),
    "balanced-sam": (weighted(inverse_roots()), {}),
}


def test_every_method_that_goes_by_classes_has_its_loop_here() -> None:
    assert set(ADDENDS) == set(GO_BY_CLASSES)


@pytest.mark.parametrize("memberships", [SOFT, LABELS, torch.cat([SOFT, LABELS])], ids=["soft", "labels", "both"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", GO_BY_CLASSES)
def test_shares_of_rows_follow_the_textbook_loop(name: str, case: Case, memberships: Tensor) -> None:
    addends_of, options = ADDENDS[name]
    model, twin = case.model(), case.model()
    x, rho = inputs(case, len(memberships)), 0.3
    optimizer = made(name, model, rho=rho, batch_statistics="batch", **options)
    params = list(twin.parameters())
    addends = [
        oracles.Addend(a.descent, a.ascent, list(a.rhos) * len(params)) for a in addends_of(memberships.tolist(), rho)
    ]
    direction = oracles.plain_direction()
    if name == "cc-sam":
        direction = oracles.class_conditional_direction(per_tensor=True)
    expected = oracles.family_gradient(
        params,
        lambda rows: mixed_loss(twin(x[rows]), memberships[rows]),
        addends,
        direction,
        coupled=case.coupled,
    )
    loss = optimizer.step(lambda rows: mixed_loss(model(x[rows]), memberships[rows]), targets=memberships)
    assert loss is not None
    assert_gradients_close(gradients(model), expected)
    twin.load_state_dict(case.model().state_dict())
    torch.testing.assert_close(loss, mixed_loss(twin(x), memberships).mean().detach(), atol=1e-12, rtol=0)
