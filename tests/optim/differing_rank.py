"""One of two processes that differ where they must not: ``python differing_rank.py RANK SIZE FOLDER WHAT``."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cases import MLP, TAIL
from imbsam.errors import ImbsamError
from imbsam.optim import SAM, ImbSAM, SharpnessAware
from optim.loops import sgd

TARGETS = torch.tensor([0, 3, 1, 2, 0, 4])


def made(what: str, rank: int, model: DistributedDataParallel) -> SharpnessAware:
    tail = TAIL.roll(1) if what == "tail" and rank else TAIL
    if what == "method" and rank:
        return SAM(sgd(model.parameters()), rho=0.1, model=model)
    return ImbSAM(sgd(model.parameters()), tail, rho=0.2 if what == "rho" and rank else 0.1, model=model)


def main(rank: int, size: int, folder: Path, what: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size, timeout=timedelta(seconds=5)
    )
    bare = MLP.model()
    model = DistributedDataParallel(bare)
    optimizer = made(what, rank, model)
    told = ""
    try:
        for seed in range(3 if what != "batches" or rank == 0 else 2):
            before = [p.detach().clone() for p in bare.parameters()]
            x, y = MLP.batch(TARGETS, seed)
            optimizer.step(lambda rows, x=x, y=y: MLP.loss(model(x[rows]), y[rows]), targets=y)
        if what == "batches":
            # What a loop does after its batches: it meets the other ranks for something else.
            dist.barrier()
    except ImbsamError as error:
        told = f"{type(error).__name__}: {error}"
        assert all(torch.equal(p, b) for p, b in zip(bare.parameters(), before, strict=True))
    except RuntimeError as error:
        told = f"torch: {error}"
    torch.save({"told": told, "steps": optimizer.steps}, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
