"""ImbSAM in a loop of Accelerate, with its accumulation of micro-batches."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report
from imbsam.integrations.accelerate import AccelerateBackward


def main(accumulate: int = 1) -> torch.nn.Module:
    dataset, tail = rare_digits()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = network()
    optimizer = imbsam(model, tail)
    loader = DataLoader(dataset, BATCH_SIZE // accumulate)
    steps = EPOCHS * -(-len(loader) // accumulate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    backward = AccelerateBackward(accelerator, model, optimizer)

    def row_losses(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="none")

    for _ in range(EPOCHS):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = backward(batch, row_losses)  # None until the last micro-batch of a step
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        print(f"loss of the last batch {loss:.3f}")
    report(model, dataset, tail)
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    main()
