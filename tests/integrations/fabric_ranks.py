"""A process of Fabric, with half of every step's rows, one by one: ``fabric_ranks.py RANK SIZE FOLDER ddp|shard``."""

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from imbsam.errors import PassError
from integrations import plain
from integrations.plain import BATCH_SIZE
from integrations.test_fabric import Run


def main(folder: Path, how: str) -> None:
    strategy = {"ddp": "ddp", "shard": ModelParallelStrategy(sharded, data_parallel_size=2, tensor_parallel_size=1)}
    fabric = Fabric(accelerator="cpu", strategy=strategy[how], devices=2)
    fabric.launch()
    x, y = plain.dataset().tensors
    if how == "shard":
        torch.save(resumed(fabric, folder), folder / f"resumed-{fabric.global_rank}.pt")
    for name in ("imbsam", "sam"):
        run = Run(name, accumulate=BATCH_SIZE // 2, fabric=fabric)
        kind = {"ddp": DistributedDataParallel, "shard": FSDPModule}[how]
        assert any(isinstance(m, kind) for m in run.model.modules())
        # Dealt in turn: each rank has three of a step's six, one in each micro-batch.
        run.data = [(x[i : i + 1], y[i : i + 1]) for i in range(fabric.global_rank, len(y), 2)]
        run.clip = 0.5
        run.epochs(2)
        made = {"weights": whole(run.bare), "losses": run.losses, "refused": refused(run)}
        torch.save(made, folder / f"{name}-{fabric.global_rank}.pt")


def resumed(fabric: Fabric, folder: Path) -> list[dict[str, torch.Tensor]]:
    """Weights after two epochs, without and with a stop: the model saved by Fabric, the optimizer by each rank."""
    straight, first, second = (Run("looksam", fabric=fabric) for _ in range(3))
    first.epochs(1)
    fabric.save(folder / "model", {"model": first.model})
    held = [each.state_dict() for each in (first.optimizer.optimizer, first.scheduler)]
    torch.save(held, folder / f"own-{fabric.global_rank}.pt")
    fabric.load(folder / "model", {"model": second.model})
    held = torch.load(folder / f"own-{fabric.global_rank}.pt", weights_only=False)
    second.optimizer.optimizer.load_state_dict(held[0])
    second.scheduler.load_state_dict(held[1])
    return [whole(straight.epochs(2).bare), whole(second.epochs(1).bare)]


def sharded(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in model.state_dict().items()}


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
    main(Path(sys.argv[3]), sys.argv[4])
