"""ImbSAM in a loop of Lightning Fabric: ``python examples/fabric_loop.py [PROCESSES [shard]]``.

With its processes, its clipping, and accumulation of micro-batches. Every process has a copy of the weights (DDP), or
with ``shard`` a part of them (FSDP2).
"""

import sys

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report
from imbsam.integrations.fabric import FabricBackward


def sharded(model: torch.nn.Module, mesh: DeviceMesh) -> torch.nn.Module:
    return fully_shard(model, mesh=mesh["data_parallel"])


def main(accumulate: int = 1, devices: int = 1, precision: str = "32-true", shard: bool = False) -> torch.nn.Module:
    """Train; ``32-true`` casts nothing, so that the digits' float64 stays."""
    dataset, tail = rare_digits()
    strategy = "ddp" if devices > 1 else "auto"
    if shard:
        strategy = ModelParallelStrategy(sharded, data_parallel_size=devices, tensor_parallel_size=1)
    fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy, precision=precision)
    fabric.launch()
    network_alone = network()
    model = fabric.setup_module(network_alone)
    optimizer = fabric.setup_optimizers(imbsam(network_alone, tail))  # After the model: sharded weights are new ones.
    backward = FabricBackward(fabric, model, optimizer)
    # Dealt in turn: a step has the same rows whatever the number of processes.
    sampler = DistributedSampler(dataset, devices, fabric.global_rank, shuffle=False)
    loader = DataLoader(dataset, BATCH_SIZE // accumulate // devices, sampler=sampler)
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    steps = EPOCHS * -(-len(loader) // accumulate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.optimizer, steps)

    def row_losses(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="none")

    for _ in range(EPOCHS):
        for count, batch in enumerate(loader, 1):
            more = count % accumulate > 0 and count < len(loader)
            loss = backward(batch, row_losses, more=more)  # None until the last micro-batch of a step
            if loss is not None:
                fabric.clip_gradients(model, optimizer, max_norm=1.0)
                optimizer.step()
                scheduler.step()
        fabric.print(f"loss of the last batch {loss:.3f}")
    alone = network()
    alone.load_state_dict(get_model_state_dict(network_alone, options=StateDictOptions(full_state_dict=True)))
    if fabric.is_global_zero:
        report(alone, dataset, tail)
    return alone


if __name__ == "__main__":
    main(devices=int(sys.argv[1]) if len(sys.argv) > 1 else 1, shard="shard" in sys.argv[2:])
