"""ImbSAM in a loop of your own: forward, backward, clipping and schedule stay where they are."""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report


def main() -> torch.nn.Module:
    dataset, tail = rare_digits()
    loader = DataLoader(dataset, BATCH_SIZE)
    model = network()
    optimizer = imbsam(model, tail)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
    for _ in range(EPOCHS):
        for x, y in loader:
            with optimizer.passes(y) as passes:
                for p in passes:
                    p.backward(F.cross_entropy(model(x[p.rows]), y[p.rows], reduction="none"))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        print(f"loss of the last batch {passes.loss:.3f}")
    report(model, dataset, tail)
    return model


if __name__ == "__main__":
    main()
