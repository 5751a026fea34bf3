"""Two processes of Lightning's DDP, each with half of every step's rows, one by one: ``lightning_ranks.py FOLDER``."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, DistributedSampler

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

from integrations import plain  # noqa: E402
from integrations.plain import BATCH_SIZE  # noqa: E402
from integrations.test_lightning import Module, trainer  # noqa: E402


class Sharded(Module):
    """Deals the rows in turn, unshuffled: each rank has three of a step's six, one in each micro-batch."""

    def train_dataloader(self) -> DataLoader:
        rows = plain.dataset()
        return DataLoader(rows, 1, sampler=DistributedSampler(rows, 2, self.trainer.global_rank, shuffle=False))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name in ("imbsam", "sam"):
        module = Sharded(name)
        ranks = trainer(
            strategy="ddp", devices=2, accumulate_grad_batches=BATCH_SIZE // 2, use_distributed_sampler=False
        )
        ranks.fit(module)
        made = {"weights": module.net.state_dict(), "losses": module.losses}
        torch.save(made, folder / f"{name}-{ranks.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
