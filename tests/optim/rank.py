"""One process of a distributed run, started by ``test_ranks.py``: ``python rank.py RANK WORLD_SIZE FOLDER``."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, MLP, ROUTED, TAIL, Case
from imbsam.errors import NonFiniteError
from imbsam.optim import SAM, Gradient, ImbSAM, SharpnessAware
from imbsam.optim._options import Climb
from processes import among_ranks

TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 3, 2, 1])
HEAD_ROWS = [0, 2, 3, 4, 6, 7, 9, 10]
TAIL_ROWS = [1, 5, 8]
STEPS = 3


def imbsam(model: nn.Module, climb: Climb = "together") -> SharpnessAware:
    return ImbSAM(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        TAIL,
        rho=0.3,
        model=model,
        batch_statistics="batch",
        tail_weight=2.0,
        ascent=Gradient(damping=0.1),
        climb=climb,
    )


def imbsam_apart(model: nn.Module) -> SharpnessAware:
    return imbsam(model, "apart")


def sam(model: nn.Module) -> SharpnessAware:
    return SAM(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        rho=0.3,
        model=model,
        batch_statistics="batch",
        ascent=Gradient(damping=0.1),
    )


class Wrapped(nn.Module):
    """A further wrapper around the distributed model, as compilers and trainers put there."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@dataclass(frozen=True)
class Scenario:
    """Which rows of the batch each rank has; ranks without a shard take no part."""

    shards: tuple[list[int], ...]
    case: Case = MLP
    method: Callable[[nn.Module], SharpnessAware] = imbsam
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)
    options: tuple[tuple[str, bool], ...] = ()


SCENARIOS = {
    "two ranks": Scenario(([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])),
    "uneven shards": Scenario((list(range(9)), [9, 10])),
    "a rank without tail rows": Scenario((HEAD_ROWS[:5], HEAD_ROWS[5:] + TAIL_ROWS)),
    "a rank of tail rows alone": Scenario((HEAD_ROWS, TAIL_ROWS)),
    "no tail row on any rank": Scenario((HEAD_ROWS[:2], HEAD_ROWS[2:])),
    "tail rows alone on every rank": Scenario((TAIL_ROWS[:1], TAIL_ROWS[1:])),
    "three ranks": Scenario(([0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10])),
    "three ranks: mixed, head alone, tail alone": Scenario(([0, 1, 2], [3, 4, 6, 7, 9, 10], [5, 8])),
    "SAM on two ranks": Scenario((list(range(8)), [8, 9, 10]), method=sam),
    "SAM on three ranks": Scenario(([0, 1], [2, 3, 4, 5, 6], [7, 8, 9, 10]), method=sam),
    "batch norm": Scenario(([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), BATCH_NORM),
    "batch norm, a rank without tail rows": Scenario((HEAD_ROWS[:4], HEAD_ROWS[4:] + TAIL_ROWS), BATCH_NORM),
    "batch norm, SAM": Scenario(([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), BATCH_NORM, sam),
    "climbing apart": Scenario((list(range(7)), [7, 8, 9, 10]), method=imbsam_apart),
    "climbing apart, a rank without tail rows": Scenario(
        (HEAD_ROWS[:5], HEAD_ROWS[5:] + TAIL_ROWS), method=imbsam_apart
    ),
    "climbing apart, batch norm": Scenario(([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), BATCH_NORM, imbsam_apart),
    "climbing apart, three ranks": Scenario(([0, 1, 2], [3, 4, 6, 7, 9, 10], [5, 8]), method=imbsam_apart),
    "wrapped further": Scenario((list(range(9)), [9, 10]), wrap=Wrapped),
    "gradients in buckets": Scenario((HEAD_ROWS, TAIL_ROWS), options=(("gradient_as_bucket_view", True),)),
    "batch norm, gradients in buckets": Scenario(
        ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), BATCH_NORM, options=(("gradient_as_bucket_view", True),)
    ),
    "parameters without rows": Scenario((HEAD_ROWS, TAIL_ROWS), ROUTED, options=(("find_unused_parameters", True),)),
}


def train(scenario: Scenario, rank: int, group: dist.ProcessGroup) -> dict[str, object]:
    bare = scenario.case.model()
    model = scenario.wrap(DistributedDataParallel(bare, process_group=group, **dict(scenario.options)))
    optimizer = scenario.method(model)
    losses = []
    for seed in range(STEPS):
        x, y = scenario.case.batch(TARGETS, seed)
        x, y = x[scenario.shards[rank]], y[scenario.shards[rank]]
        loss = optimizer.step(lambda rows, x=x, y=y: scenario.case.loss(model(x[rows]), y[rows]), targets=y)
        losses.append(loss)
    return {"state": bare.state_dict(), "losses": losses}


def train_on_nan(rank: int, group: dist.ProcessGroup) -> dict[str, object]:
    """One rank has a row that is NaN, then none has."""
    bare = MLP.model()
    model = DistributedDataParallel(bare, process_group=group)
    optimizer = imbsam(model)
    before = [p.detach().clone() for p in bare.parameters()]
    rows = [HEAD_ROWS, TAIL_ROWS][rank]
    x, y = MLP.batch(TARGETS)
    x, y = x[rows], y[rows]
    spoilt = torch.full_like(x, torch.nan) if rank == 1 else x
    refused = False
    try:
        optimizer.step(lambda r: MLP.loss(model(spoilt[r]), y[r]), targets=y)
    except NonFiniteError:
        refused = True
    untouched = all(torch.equal(p, q) for p, q in zip(bare.parameters(), before, strict=True))
    optimizer.step(lambda r: MLP.loss(model(x[r]), y[r]), targets=y)
    return {"refused": refused, "untouched": untouched, "state": bare.state_dict()}


def main(rank: int, size: int, folder: Path) -> None:
    with among_ranks(rank, size, folder, seconds=20):
        groups = {2: dist.new_group([0, 1]), 3: dist.new_group([0, 1, 2])}
        results: dict[str, object] = {}
        for name, scenario in SCENARIOS.items():
            if rank < len(scenario.shards):
                results[name] = train(scenario, rank, groups[len(scenario.shards)])
        if rank < 2:
            results["nan"] = train_on_nan(rank, groups[2])
        torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
