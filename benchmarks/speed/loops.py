"""Training scripts as people write them: plain, with a SAM by hand, and with optimizers of libraries."""

import pickle
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from contenders import Step, ours, peer, plain
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from trainer import PerItem

from imbsam import ClassPriors, models
from imbsam.inputs import ImageSpec

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
    random.seed(0)
    pixels, targets = part(folder, *(f"data_batch_{number}" for number in range(1, 6)))
    loader = DataLoader(PerItem(pixels, targets, MEAN, STD), batch, shuffle=True)
    model = models.build("resnet20", ImageSpec(3, 32, 32, MEAN, STD), num_classes=classes)
    method, _, whose = what.partition(", ")
    tail = ClassPriors.from_targets(targets, num_classes=classes).tail(fewer_than=tail_below)
    if whose == "imbsam.optim":
        name = {"SGD": "plain", "SAM": "sam", "ImbSAM": "imbsam"}[method]
        step = ours(name, **({} if name == "plain" else {"rho": RHO}))(model, tail, LR)
    elif whose == "pytorch-optimizer":
        step = peer(method, rho=RHO)(model, tail, LR)
    else:
        step = {"SGD": plain, "SAM": sam}[method](model, tail, LR)
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


def sam(model: nn.Module, tail: Tensor, lr: float) -> Step:
    """SAM as it is written into a loop: two passes of the whole batch, the weights kept beside."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9)

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
