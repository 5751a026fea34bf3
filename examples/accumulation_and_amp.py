"""Micro-batches and mixed precision with a GradScaler, in a loop of your own."""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report

MICRO_BATCH = 16


def main(precision: torch.dtype | None = torch.bfloat16) -> torch.nn.Module:
    """Train; a precision of ``None`` casts nothing. On a GPU, float16 works alike."""
    dataset, tail = rare_digits()
    loader = DataLoader(dataset, BATCH_SIZE)
    model = network()
    optimizer = imbsam(model, tail)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(EPOCHS):
        for x, y in loader:
            with optimizer.passes(y, loss_scale=scaler.get_scale()) as passes:
                for p in passes:
                    for part in p.split(MICRO_BATCH):
                        with torch.autocast("cpu", precision, enabled=precision is not None):
                            losses = F.cross_entropy(model(x[part.rows]), y[part.rows], reduction="none")
                        part.backward(scaler.scale(losses))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
        print(f"loss of the last batch {passes.loss:.3f}")
    report(model, dataset, tail)
    return model


if __name__ == "__main__":
    main()
