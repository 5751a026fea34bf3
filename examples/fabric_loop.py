"""ImbSAM in a loop of Lightning Fabric: with its processes, its clipping, and accumulation of micro-batches."""

import sys

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, DistributedSampler

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report
from imbsam.integrations.fabric import FabricBackward


def main(accumulate: int = 1, devices: int = 1, precision: str = "32-true") -> torch.nn.Module:
    """Train; ``32-true`` casts nothing, so that the digits' float64 stays."""
    dataset, tail = rare_digits()
    fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", precision=precision)
    fabric.launch()
    network_alone = network()
    optimizer = imbsam(network_alone, tail)
    # Dealt in turn: a step has the same rows whatever the number of processes.
    sampler = DistributedSampler(dataset, devices, fabric.global_rank, shuffle=False)
    loader = DataLoader(dataset, BATCH_SIZE // accumulate // devices, sampler=sampler)
    steps = EPOCHS * -(-len(loader) // accumulate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model, optimizer = fabric.setup(network_alone, optimizer)
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    backward = FabricBackward(fabric, model, optimizer)

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
    if fabric.is_global_zero:
        report(network_alone, dataset, tail)
    return network_alone


if __name__ == "__main__":
    main(devices=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
