"""Small loops the optimizer's tests share: plain training, training by closure, what a model holds."""

import copy
import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cases import TAIL, Case, Loss
from imbsam.optim import SAM, ImbSAM, Passes, SharpnessAware

Batch = tuple[Tensor, Tensor]


def sgd(params: Iterable[Tensor] | Sequence[dict[str, object]], **options: Any) -> Optimizer:
    return torch.optim.SGD(params, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **options})


def adamw(params: Iterable[Tensor] | Sequence[dict[str, object]], **options: Any) -> Optimizer:
    return torch.optim.AdamW(params, **{"lr": 0.01, "eps": 1e-6, "weight_decay": 0.1, **options})


def imbsam(case: Case, model: nn.Module, base: Optimizer | None = None, **options: Any) -> ImbSAM:
    return ImbSAM(base or sgd(model.parameters()), TAIL, **{"model": model, "check_rows": False, **options})


def sam(case: Case, model: nn.Module, base: Optimizer | None = None, **options: Any) -> SAM:
    return SAM(base or sgd(model.parameters()), **{"model": model, "check_rows": False, **options})


METHODS = (sam, imbsam)


def rows_closure(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda rows: loss(model(x[rows]), y[rows])


def mean_closure(
    model: nn.Module, loss: Loss, batch: Batch, scale: Callable[[Tensor], Tensor] = lambda loss: loss
) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        value = loss(model(batch[0]), batch[1]).mean()
        scale(value).backward()
        return value

    return closure


def take_step(optimizer: SharpnessAware, model: nn.Module, loss: Loss, batch: Batch) -> Tensor:
    return cast(Tensor, optimizer.step(rows_closure(model, loss, *batch), targets=batch[1]))


def make_passes(optimizer: SharpnessAware, model: nn.Module, loss: Loss, batch: Batch) -> Passes:
    x, y = batch
    with optimizer.passes(y) as passes:
        for p in passes:
            p.backward(loss(model(x[p.rows]), y[p.rows]))
    return passes


def plain_step(optimizer: Optimizer, model: nn.Module, loss: Loss, batch: Batch) -> Tensor:
    optimizer.zero_grad()
    value = loss(model(batch[0]), batch[1]).mean()
    value.backward()
    optimizer.step()
    return value.detach()


def contents(*held: nn.Module | Optimizer) -> list[Tensor]:
    """Copies of every parameter, buffer and tensor of optimizer state."""
    found: list[Tensor] = []
    for one in held:
        if isinstance(one, nn.Module):
            found += [*one.parameters(), *one.buffers()]
        else:
            found += [v for state in one.state.values() for v in state.values() if isinstance(v, Tensor)]
    return [t.detach().clone() for t in found]


Copied = TypeVar("Copied")


def copied(how: str, original: Copied) -> Copied:
    """A copy by ``"deepcopy"``, ``"pickle"`` or ``"torch.save"``."""
    if how == "deepcopy":
        return copy.deepcopy(original)
    if how == "pickle":
        return cast(Copied, pickle.loads(pickle.dumps(original)))
    file = io.BytesIO()
    torch.save(original, file)
    file.seek(0)
    return cast(Copied, torch.load(file, weights_only=False))


def identical(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors agree bit for bit (a NaN equals itself)."""
    return len(a) == len(b) and all(
        s.dtype == t.dtype and bool(((s == t) | (s.isnan() & t.isnan())).all()) for s, t in zip(a, b, strict=True)
    )


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.detach().clone() for p in model.parameters()]


def assert_gradients_close(
    got: Sequence[Tensor | None], expected: Sequence[Tensor | None], atol: float = 1e-12, rtol: float = 0.0
) -> None:
    assert [g is None for g in got] == [g is None for g in expected]
    for g, e in zip(got, expected, strict=True):
        if g is not None and e is not None:
            torch.testing.assert_close(g.to_dense(), e.to_dense(), atol=atol, rtol=rtol)


class Forwards:
    """Counts a model's forwards and the rows of each, by a hook."""

    def __init__(self, model: nn.Module) -> None:
        self.rows: list[int] = []
        model.register_forward_hook(lambda module, args, out: self.rows.append(len(args[0])))


class Backwards:
    """Counts the backwards that reach a parameter, by a hook."""

    def __init__(self, parameter: Tensor) -> None:
        self.count = 0
        parameter.register_hook(self._seen)

    def _seen(self, grad: Tensor) -> None:
        self.count += 1
