"""Images a second of our training loop beside the plain loop that people write.

    python benchmarks/speed/trainer.py CIFAR10_FOLDER [--steps 30]

Both train a ResNet-20 on CIFAR-10 made long-tailed (imbalance factor 100) with batches of 128, pad-crop-flip and SGD.
The plain loop transforms image by image with Pillow in a DataLoader, as torchvision's transforms do, with 0 and with 2
workers, in the memory format that networks come in. Ours is what `imbsam train` runs: whole batches transformed at
once, channels last, and with --precision bfloat16 the processor's own half precision. Blocks of steps alternate in one
process; medians go to results/trainer.json.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from imbsam import ImbSAM, data, models
from imbsam.losses import build
from imbsam.priors import ClassPriors
from imbsam.training.step import train_step

RESULTS = Path(__file__).parent / "results" / "trainer.json"
BATCH, BLOCK = 128, 6
Block = Callable[[], float]
"""Makes some steps, and gives images a second."""


class PerItem(Dataset[tuple[Tensor, int]]):
    """Pad by 4, crop, flip, to a tensor, normalise: one image at a time."""

    def __init__(self, pixels: Tensor, targets: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images = [Image.fromarray(each) for each in pixels.permute(0, 2, 3, 1).numpy()]
        self.targets = targets.tolist()
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = ImageOps.expand(self.images[index], border=4)
        left, top = random.randint(0, 8), random.randint(0, 8)
        image = image.crop((left, top, left + 32, top + 32))
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        return (values - self.mean) / self.std, self.targets[index]


def plain_loop(items: PerItem, model: nn.Module, workers: int) -> Block:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from DataLoader(items, BATCH, shuffle=True, num_workers=workers, drop_last=True)

    source = batches()

    def block() -> float:
        began = time.perf_counter()
        for _ in range(BLOCK):
            x, y = next(source)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        return BLOCK * BATCH / (time.perf_counter() - began)

    return block


def our_loop(dataset: data.Dataset, model: nn.Module, method: str, precision: str) -> Block:
    priors = ClassPriors.from_targets(dataset.train.targets)
    model = model.to(memory_format=torch.channels_last)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    # Without a tail class it is plain SGD, bit for bit.
    tail = priors.tail(fewer_than=200) if method == "imbsam" else torch.zeros(10, dtype=torch.bool)
    optimizer, criterion = ImbSAM(base, tail, model=model), build("cross-entropy", priors)
    transform = data.training_transform(dataset.spec, "cifar")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            yield from data.batches(dataset.train, batch_size=BATCH, epoch=epoch, shuffle=True, transform=transform)
            epoch += 1

    source = batches()

    def block() -> float:
        began, rows = time.perf_counter(), 0
        for _ in range(BLOCK):
            x, y = next(source)
            autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else None
            x = x.contiguous(memory_format=torch.channels_last)
            train_step(model, criterion, optimizer, x, y, precision=autocast)
            rows += len(y)
        return rows / (time.perf_counter() - began)

    return block


def step_alone(dataset: data.Dataset, model: nn.Module) -> Block:
    """The limit of any loop in this memory format and float32: plain steps on a batch that is ready."""
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    transform = data.evaluation_transform(dataset.spec)
    source = data.batches(dataset.train, batch_size=BATCH, shuffle=True, transform=transform)
    x, y = next(iter(source))
    x = x.contiguous(memory_format=torch.channels_last)

    def block() -> float:
        began = time.perf_counter()
        for _ in range(BLOCK):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        return BLOCK * BATCH / (time.perf_counter() - began)

    return block


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar10")
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    dataset = data.load(asked.cifar10, imbalance=100)
    everything = dataset.train.batch(torch.arange(len(dataset.train)))
    items = PerItem(everything, dataset.train.targets, dataset.spec.mean, dataset.spec.std)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return models.build("resnet20", dataset.spec, num_classes=10)

    loops = {
        "plain loop, 0 workers": plain_loop(items, network(), 0),
        "plain loop, 2 workers": plain_loop(items, network(), 2),
        "imbsam, sgd": our_loop(dataset, network(), "sgd", "float32"),
        "imbsam, imbsam": our_loop(dataset, network(), "imbsam", "float32"),
        "imbsam, sgd, bfloat16": our_loop(dataset, network(), "sgd", "bfloat16"),
        "imbsam, imbsam, bfloat16": our_loop(dataset, network(), "imbsam", "bfloat16"),
        "the step alone, float32, channels last": step_alone(dataset, network()),
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(1 + max(1, asked.steps // BLOCK)):
        for name, block in loops.items():
            speed = block()
            speeds[name] += [speed] if number else []
    result = {
        "images_per_second": {name: round(median(found), 1) for name, found in speeds.items()},
        "torch": torch.__version__,
        "threads": 2,
        "load": round(os.getloadavg()[0], 1),
    }
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
