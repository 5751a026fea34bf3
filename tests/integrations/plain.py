"""The plain loop that every framework must repeat, and the small training both make."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from cases import BATCH_NORM, MLP, TAIL, Case
from imbsam import ClassPriors
from imbsam.optim import SAM, FocalSAM, ImbSAM, LookSAM, SharpnessAware

PRIORS = ClassPriors.from_counts([40, 30, 20, 6, 1])
METHODS: dict[str, Callable[..., SharpnessAware]] = {
    "imbsam": ImbSAM,
    "sam": SAM,
    "looksam": LookSAM,
    "focal-sam": FocalSAM,
}
TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 2, 1, 0, 0, 1, 3, 2, 0, 1, 0, 2, 4, 0, 1, 0, 3, 1, 2])
"""26 rows: four batches of six and one of two; the second has no tail row."""
BATCH_SIZE = 6
CASES = (MLP, BATCH_NORM)


def dataset(case: Case = MLP, dtype: torch.dtype = torch.float64) -> TensorDataset:
    return TensorDataset(*case.batch(TARGETS, dtype=dtype))


def batches(rows: TensorDataset, size: int = BATCH_SIZE) -> list[tuple[Tensor, Tensor]]:
    x, y = rows.tensors
    return list(zip(x.split(size), y.split(size), strict=True))


def optimizer_for(name: str, model: nn.Module, **options: object) -> SharpnessAware:
    return optimizer_over(model.parameters(), name, model=model, **options)


def optimizer_over(params: Iterable[Tensor], name: str, *, lr: float = 0.1, **options: object) -> SharpnessAware:
    given: dict[str, object] = {"imbsam": {"tail": TAIL}, "focal-sam": {"priors": PRIORS}}.get(name, {})
    base = torch.optim.SGD(params, lr=lr, momentum=0.9, weight_decay=0.01)
    return METHODS[name](base, **given, **options)


def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def train(
    model: nn.Module,
    optimizer: SharpnessAware,
    data: Sequence[tuple[Tensor, Tensor]],
    *,
    epochs: int = 2,
    micro: int | None = None,
    clip: Callable[[], object] = lambda: None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    precision: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> list[float]:
    """Train by the face of the optimizer alone; gives the loss of each step."""
    losses = []
    for _ in range(epochs):
        for x, y in data:
            with optimizer.passes(y, loss_scale=scaler.get_scale() if scaler else 1.0) as passes:
                for p in passes:
                    for part in p.split(micro or len(y)):
                        with torch.autocast("cpu", precision, enabled=precision is not None, cache_enabled=False):
                            rows = losses_of(model, (x[part.rows], y[part.rows]))
                        part.backward(scaler.scale(rows) if scaler else rows)
            if scaler:
                scaler.unscale_(optimizer)
            clip()
            if scaler:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(float(passes.loss))
    return losses


def by_hand(
    name: str, case: Case = MLP, dtype: torch.dtype = torch.float64, *, clip: float | None = None, **options: object
) -> tuple[nn.Module, list[float]]:
    """What a plain loop with a schedule ends with, and the losses on the way; ``options`` of :func:`train`."""
    model = case.model(dtype)
    optimizer = optimizer_for(name, model)
    if clip is not None:
        options["clip"] = lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)
    data = batches(dataset(case, dtype))
    return model, train(model, optimizer, data, scheduler=schedule(optimizer), **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models hold the same numbers, running statistics too, bit for bit."""
    one, other = a.state_dict(), b.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)
