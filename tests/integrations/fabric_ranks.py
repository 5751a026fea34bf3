"""Two processes of Fabric's DDP, each with half of every step's rows, one by one: ``fabric_ranks.py FOLDER``."""

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

import torch  # noqa: E402
from lightning_fabric import Fabric  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from imbsam.errors import PassError  # noqa: E402
from integrations import plain  # noqa: E402
from integrations.plain import BATCH_SIZE  # noqa: E402
from integrations.test_fabric import Run  # noqa: E402


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", strategy="ddp", devices=2)
    fabric.launch()
    x, y = plain.dataset().tensors
    for name in ("imbsam", "sam"):
        run = Run(name, accumulate=BATCH_SIZE // 2, fabric=fabric)
        assert any(isinstance(m, DistributedDataParallel) for m in run.model.modules())
        # Dealt in turn: each rank has three of a step's six, one in each micro-batch.
        run.data = [(x[i : i + 1], y[i : i + 1]) for i in range(fabric.global_rank, len(y), 2)]
        run.epochs(2)
        made = {"weights": run.bare.state_dict(), "losses": run.losses, "refused": refused(run)}
        torch.save(made, folder / f"{name}-{fabric.global_rank}.pt")


def refused(run: Run) -> int:
    """How many of the passes of a step refuse a checkpoint."""
    count = 0

    def row_losses(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        nonlocal count
        try:
            run.model.state_dict()
        except PassError:
            count += 1
        return plain.losses_of(run.model, batch)

    # Head and tail on both ranks.
    run.backward((run.data[0][0].repeat(2, 1), torch.tensor([0, 3])), row_losses)
    return count


if __name__ == "__main__":
    main(Path(sys.argv[1]))
