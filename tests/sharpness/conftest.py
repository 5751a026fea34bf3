from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from imbsam.sharpness import LossSurface, Rows

CLASSES = 4
COUNTS = (23, 11, 6, 2)
DRAWN = 7


class Counting(nn.Module):
    """Counts the rows that go through, independently of the surface's own count."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        return self.inner(rows)


@dataclass
class Case:
    model: Counting
    inputs: Tensor
    targets: Tensor
    rows: Rows

    def surface(self, **options: object) -> LossSurface:
        criterion = nn.CrossEntropyLoss(reduction="none")
        return LossSurface(self.model, criterion, self.rows, **{"batch_size": 5, "dtype": torch.float64, **options})

    # Below is the oracle: loops over rows and weights, which share no code with the library.

    def weights(self) -> Tensor:
        return torch.cat([p.detach().double().reshape(-1) for p in self.model.parameters()])

    def loss(self, classes: Sequence[int], point: Tensor | None = None, *, graph: Tensor | None = None) -> Tensor:
        """Mean over all rows of the classes, each class mean taken over the rows that were drawn of it."""
        model, flat = self.model.inner, self.weights() if point is None else point
        flat = flat if graph is None else graph
        total = torch.zeros((), dtype=torch.float64)
        everything = sum(COUNTS[c] for c in classes)
        for c in classes:
            own = [int(i) for i in self.rows.indices if int(self.targets[i]) == c]
            for i in own:
                logits = by_hand(model, flat, self.inputs[i].double())
                nats = torch.log(torch.exp(logits).sum()) - logits[c]
                total = total + nats / len(own) * COUNTS[c] / everything
        return total

    def gradient(self, classes: Sequence[int], point: Tensor | None = None) -> Tensor:
        flat = (self.weights() if point is None else point).clone().requires_grad_()
        return torch.autograd.grad(self.loss(classes, graph=flat), flat)[0]

    def hessian(self, classes: Sequence[int]) -> Tensor:
        flat = self.weights().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(classes, graph=flat), flat, create_graph=True)
        return torch.stack([torch.autograd.grad(part, flat, retain_graph=True)[0] for part in slope])


def by_hand(model: nn.Sequential, flat: Tensor, row: Tensor) -> Tensor:
    """Linear, BatchNorm by running statistics, tanh, linear - for one row."""
    norm = model[1]
    sizes = [p.numel() for p in model.parameters()]
    w1, b1, scale, shift, w2, b2 = (
        part.reshape(p.shape) for part, p in zip(torch.split(flat, sizes), model.parameters(), strict=True)
    )
    hidden = w1 @ row + b1
    hidden = (hidden - norm.running_mean.double()) / torch.sqrt(norm.running_var.double() + norm.eps) * scale + shift
    return w2 @ torch.tanh(hidden) + b2


@pytest.fixture
def case() -> Case:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES))
    model(torch.randn(40, 3))
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    targets = torch.cat([torch.full((n,), c) for c, n in enumerate(COUNTS)])[torch.randperm(sum(COUNTS))]
    inputs = torch.randn(len(targets), 3) + targets[:, None] / 2
    return Case(Counting(model), inputs, targets, Rows.draw(inputs, targets, per_class=DRAWN))


PARTS = {"overall": (0, 1, 2, 3), "many": (0, 1), "few": (2, 3), "class 0": (0,), "class 3": (3,)}


@pytest.fixture(params=PARTS.values(), ids=PARTS)
def part(request) -> tuple[int, ...]:
    return request.param
