"""SAM in trainers that hand over a closure, as torch.optim.LBFGS has it and as MosaicML Composer does.

For the methods that need no classes (SAM, ASAM, GSAM, ...): the closure tells nothing of them.
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from digits import BATCH_SIZE, EPOCHS, network, rare_digits, report
from imbsam import SAM

MICRO_BATCH = 16


def sam(model: torch.nn.Module) -> SAM:
    return SAM(torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9), rho=0.05, model=model)


def step_as_lbfgs(model: torch.nn.Module, optimizer: SAM, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The closure clears the gradients, computes the mean loss, calls backward and returns the loss."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure)


def step_as_composer(model: torch.nn.Module, optimizer: SAM, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The closure takes keywords and loops over micro-batches, whose gradients add up."""

    def train_micro_batches(**kwargs: object) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        total = x.new_zeros(())
        for inputs, targets in zip(x.split(MICRO_BATCH), y.split(MICRO_BATCH), strict=True):
            loss = F.cross_entropy(model(inputs), targets, reduction="sum") / len(y)
            loss.backward()
            total += loss.detach()
        return total

    return optimizer.step(closure=lambda **kwargs: train_micro_batches(**kwargs))


def main(step: object = step_as_lbfgs) -> torch.nn.Module:
    dataset, tail = rare_digits()
    model = network()
    optimizer = sam(model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(dataset) // BATCH_SIZE))
    for _ in range(EPOCHS):
        for x, y in DataLoader(dataset, BATCH_SIZE):
            loss = step(model, optimizer, x, y)
            scheduler.step()
        print(f"loss of the last batch {loss:.3f}")
    report(model, dataset, tail)
    return model


if __name__ == "__main__":
    main(step_as_lbfgs)
    main(step_as_composer)
