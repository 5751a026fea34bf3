"""One of two processes that train every registered method, where a step of the second has a fault.

Started by ``test_poisoned_ranks.py``: ``python poisoned_rank.py RANK SIZE FOLDER``.
"""

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, MLP, TAIL, Case
from imbsam.errors import NonFiniteError
from imbsam.optim import METHODS, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import contents, identical, sgd
from processes import among_ranks

TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 2, 3])
SHARDS = ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
CASES = (MLP, BATCH_NORM)
POLICIES = ("raise", "skip")


class PoisonedGradient(torch.autograd.Function):
    """The identity whose gradient is NaN."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * math.nan


def spoilt(x: Tensor) -> Tensor:
    x = x.clone()
    x[-1] = math.nan
    return x


@dataclass(frozen=True)
class Fault:
    """What happens to the inputs, and to the losses of a pass of this number, out of so many."""

    inputs: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    losses: Callable[[Tensor, int, int], Tensor] = field(default=lambda losses, place, count: losses)


NONE = Fault()
FAULTS = {
    "NaN in an input": Fault(inputs=spoilt),
    # Its gradient is that of the loss without the infinity: no all-reduce of gradients tells the other rank.
    "an infinite loss": Fault(losses=lambda losses, place, count: losses + math.inf * (place == 0)),
    "NaN in the gradient of the last pass": Fault(
        losses=lambda losses, place, count: PoisonedGradient.apply(losses) if place == count - 1 else losses
    ),
}


def step(optimizer: SharpnessAware, model: nn.Module, case: Case, rank: int, seed: int, fault: Fault) -> None:
    x, y = case.batch(TARGETS, seed)
    x, y = x[SHARDS[rank]], y[SHARDS[rank]]
    x = fault.inputs(x)
    torch.manual_seed(10 * seed + rank)
    with optimizer.passes(y) as passes:
        for place, each in enumerate(passes):
            each.backward(fault.losses(case.loss(model(x[each.rows]), y[each.rows]), place, len(passes)))
    optimizer.step()


def run(method: str, case: Case, rank: int, policy: str, fault: Fault | None) -> dict[str, object]:
    """A sound step, one with the fault on the second rank unless there is none, a sound step."""
    bare = case.model()
    model = DistributedDataParallel(bare)
    base = sgd(bare.parameters())
    optimizer = create(method, model, base=base, priors=PRIORS, tail=TAIL, nonfinite=policy)
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.3))
    step(optimizer, model, case, rank, 0, NONE)
    found: dict[str, object] = {}
    if fault is not None:
        weights, memory = contents(bare, base), copy.deepcopy(optimizer.state_dict()["sharpness"]["memory"])
        found["error"] = ""
        try:
            step(optimizer, model, case, rank, 1, fault if rank == 1 else NONE)
        except NonFiniteError as error:
            found["error"] = str(error)
        kept = optimizer.state_dict()["sharpness"]["memory"]
        found["untouched"] = (
            identical(contents(bare, base), weights)
            and kept.keys() == memory.keys()
            and all(identical([*kept[name].values()], [*memory[name].values()]) for name in kept)
        )
        found["skipped"] = optimizer.skipped
    step(optimizer, model, case, rank, 2, NONE)
    return {**found, "steps": optimizer.steps, "contents": contents(bare, base)}


def main(rank: int, folder: Path) -> None:
    with among_ranks(rank, 2, folder):
        results = {}
        for method in METHODS:
            for case in CASES:
                results[f"{method}, {case}"] = run(method, case, rank, "raise", None)
                for policy in POLICIES:
                    for name, fault in FAULTS.items():
                        results[f"{method}, {case}, {policy}, {name}"] = run(method, case, rank, policy, fault)
        torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
