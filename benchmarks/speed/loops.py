"""Training scripts as people write them: plain, with a SAM by hand, and with optimizers of libraries."""

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from contenders import plain
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from trainer import PerItem

from imbsam import ClassPriors, models, optim
from imbsam.inputs import ImageSpec

Step = Callable[[Tensor, Tensor], None]
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
LR, RHO = 0.1, 0.05


def train(what: str, folder: Path, epochs: int, *, batch: int, classes: int, tail_below: int) -> None:
    """Train a ResNet-20 on an archive in the format of CIFAR-10, and test it.

    Args:
        what: Method, and whose it is: one of ``whole_runs.LOOPS``.
        folder: The archive, unpacked.
        epochs: Passes over the training images.
        batch: Rows of a step.
        classes: Number of classes.
        tail_below: Classes with fewer training images are the tail.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels, targets = part(folder, *(f"data_batch_{number}" for number in range(1, 6)))
    loader = DataLoader(PerItem(pixels, targets, MEAN, STD), batch, shuffle=True)
    model = models.build("resnet20", ImageSpec(3, 32, 32, MEAN, STD), num_classes=classes)
    method, _, whose = what.partition(", ")
    if whose == "imbsam.optim":
        priors = ClassPriors.from_targets(targets, num_classes=classes)
        step = of_imbsam(method, model, priors, priors.tail(fewer_than=tail_below))
    elif whose == "pytorch-optimizer":
        step = of_pytorch_optimizer(model)
    else:
        step = {"SGD": lambda: plain(model, torch.zeros(classes, dtype=torch.bool), LR), "SAM": lambda: sam(model)}[
            method
        ]()
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            step(x, y)
        with tempfile.TemporaryFile() as file:
            torch.save(model.state_dict(), file)
    model.eval()
    pixels, targets = part(folder, "test_batch")
    with torch.no_grad():
        right = [
            (model((x.float() / 255 - 0.5) / 0.25).argmax(1) == y).sum()
            for x, y in zip(pixels.split(batch), targets.split(batch), strict=True)
        ]
    print(f"accuracy {int(torch.stack(right).sum()) / len(targets):.3f}")


def part(folder: Path, *names: str) -> tuple[Tensor, Tensor]:
    """Images and classes of some files of the archive, which this benchmark wrote itself."""
    read = [pickle.loads((folder / name).read_bytes(), encoding="bytes") for name in names]
    pixels = np.concatenate([each[b"data"] for each in read]).reshape(-1, 3, 32, 32)
    return torch.from_numpy(pixels), torch.tensor([label for each in read for label in each[b"labels"]])


def sam(model: nn.Module) -> Step:
    """SAM as it is written into a loop: two passes of the whole batch, the weights kept beside."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=LR, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        with torch.no_grad():
            length = torch.stack([p.grad.norm() for p in params]).norm() + 1e-12
            before = [p.clone() for p in params]
            for p in params:
                p.add_(p.grad, alpha=RHO / float(length))
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p, kept in zip(params, before, strict=True):
                p.copy_(kept)
        optimizer.step()

    return step


def of_pytorch_optimizer(model: nn.Module) -> Step:
    """SAM of pytorch-optimizer, by its closure."""
    import pytorch_optimizer

    optimizer = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=RHO, lr=LR, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)

    return step


def of_imbsam(method: str, model: nn.Module, priors: ClassPriors, tail: Tensor) -> Step:
    """A method of this library in the same loop."""
    name = {"SGD": "plain", "SAM": "sam", "ImbSAM": "imbsam"}[method]
    options = {} if name == "plain" else {"rho": RHO}
    optimizer = optim.create(name, model, priors=priors, tail=tail, base="sgd", lr=LR, momentum=0.9, **options)

    def step(x: Tensor, y: Tensor) -> None:
        with optimizer.passes(y) as passes:
            for each in passes:
                rows, classes = each.select(x, y)
                each.backward(cross_entropy(model(rows), classes, reduction="none"))
        optimizer.step()

    return step
