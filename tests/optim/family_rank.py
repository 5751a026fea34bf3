"""One of several processes that train every registered method on shards of the same batches."""

import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, MLP, TAIL, Case
from imbsam.optim import METHODS, create
from optim.family import PRIORS
from optim.loops import sgd
from processes import among_ranks

TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 2, 3])
SHARDS = ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
STEPS = 3


def train(name: str, case: Case, rank: int) -> dict[str, torch.Tensor]:
    bare = case.model()
    model = DistributedDataParallel(bare)
    base = sgd(bare.parameters())
    optimizer = create(name, model, base=base, priors=PRIORS, tail=TAIL)
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.3))
    # As in training, where each rank draws augmentations and dropout of its own.
    torch.manual_seed(rank)
    for seed in range(STEPS):
        x, y = case.batch(TARGETS, seed)
        x, y = x[SHARDS[rank]], y[SHARDS[rank]]
        optimizer.step(lambda rows, x=x, y=y: case.loss(model(x[rows]), y[rows]), targets=y)
    return {name: p.detach().clone() for name, p in bare.named_parameters()}


def main(rank: int, folder: Path) -> None:
    with among_ranks(rank, 2, folder):
        results = {f"{name}, {case}": train(name, case, rank) for name in METHODS for case in (MLP, BATCH_NORM)}
        torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
