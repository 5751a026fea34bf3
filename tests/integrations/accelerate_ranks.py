"""One process of DDP, with half of every step's rows, one by one: ``accelerate_ranks.py RANK SIZE FOLDER``."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from cases import MLP
from imbsam.integrations.accelerate import AccelerateBackward
from integrations import plain
from integrations.plain import BATCH_SIZE
from integrations.test_transformers import Named, rows_of, trainer

ROWS = 24
"""Whole steps: both frameworks fill an uneven last batch with rows from the start."""


def accelerated(name: str) -> dict[str, object]:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=BATCH_SIZE // 2)
    bare = MLP.model()
    # Made for the bare model, which is wrapped afterwards.
    optimizer = plain.optimizer_for(name, bare)
    scheduler = plain.schedule(optimizer)
    rows = [plain.dataset()[i] for i in range(ROWS)]
    model, prepared, loader = accelerator.prepare(bare, optimizer, DataLoader(rows, 1))
    assert isinstance(model, DistributedDataParallel)
    backward = AccelerateBackward(accelerator, model, prepared)
    losses = []
    for _ in range(2):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = backward(batch, lambda rows: plain.losses_of(model, rows))
                prepared.step()
            if loss is not None:
                scheduler.step()
                losses.append(float(loss))
    return {"weights": bare.state_dict(), "losses": losses}


def trained(name: str, folder: Path) -> dict[str, object]:
    model = Named(MLP.model())
    rows = rows_of(MLP, torch.float64)[:ROWS]
    run = trainer(
        folder, model, plain.optimizer_for(name, model), rows, accumulate=BATCH_SIZE, gradient_accumulation_steps=3
    )
    run.train()
    assert isinstance(run.model_wrapped, DistributedDataParallel)
    return {"weights": model.net.state_dict()}


def main(rank: int, folder: Path) -> None:
    results = {f"accelerate {name}": accelerated(name) for name in ("imbsam", "sam")}
    results |= {f"transformers {name}": trained(name, folder / "out") for name in ("imbsam", "sam")}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
