"""A process of Lightning's DDP, with half of every step's rows, one by one: ``lightning_ranks.py RANK SIZE FOLDER``."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, DistributedSampler

from integrations import plain
from integrations.plain import BATCH_SIZE
from integrations.test_lightning import Module, trainer


class Sharded(Module):
    """Deals the rows in turn, unshuffled: each rank has three of a step's six, one in each micro-batch."""

    def train_dataloader(self) -> DataLoader:
        rows = plain.dataset()
        return DataLoader(rows, 1, sampler=DistributedSampler(rows, 2, self.trainer.global_rank, shuffle=False))


def main(folder: Path) -> None:
    for name in ("imbsam", "sam"):
        module = Sharded(name)
        ranks = trainer(
            strategy="ddp", devices=2, accumulate_grad_batches=BATCH_SIZE // 2, use_distributed_sampler=False
        )
        ranks.fit(module)
        made = {"weights": module.net.state_dict(), "losses": module.losses}
        torch.save(made, folder / f"{name}-{ranks.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[3]))
