"""What a batch costs beside the training step that eats it.

    OMP_NUM_THREADS=2 python benchmarks/data/measure.py

A batch is 128 images of 3x32x32 out of 50,000 in memory: gather, pad, crop, flip, normalise. The step is a plain SGD
step of ResNet-20 at full width, forward and backward. Of several runs the fastest counts, because other programs on
the machine can only add time; the load average tells whether there were any. Prints JSON, writes it beside this file.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from imbsam import models
from imbsam.data import TensorSamples, batches, training_transform
from imbsam.inputs import ImageSpec

THREADS, BATCH, STEPS, BATCHES = 2, 128, 12, 20
SPEC = ImageSpec(3, 32, 32, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))


def main() -> None:
    torch.set_num_threads(THREADS)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=draw)
    samples = TensorSamples(pixels, torch.randint(10, (50_000,), generator=draw), [""] * 50_000)
    batch_ms = {augment: milliseconds_of_a_batch(samples, augment) for augment in ("none", "cifar")}
    step_ms = milliseconds_of_a_step(samples)
    result = {
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {THREADS} threads",
        "load_average": round(os.getloadavg()[0], 1),
        "batch": BATCH,
        "batch_ms": {augment: round(value, 3) for augment, value in batch_ms.items()},
        "resnet20_step_ms": round(step_ms, 1),
        "share_of_the_step": {augment: round(value / step_ms, 4) for augment, value in batch_ms.items()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    Path(__file__).with_name("results.json").write_text(text + "\n")


def milliseconds_of_a_batch(samples: TensorSamples, augment: str) -> float:
    transform = training_transform(SPEC, augment)

    def last_batches_of_an_epoch() -> None:
        whole = -(-len(samples) // BATCH)
        for _ in batches(samples, batch_size=BATCH, start=whole - BATCHES, shuffle=True, transform=transform):
            pass

    return fastest_ms(last_batches_of_an_epoch, repeats=20) / BATCHES


def milliseconds_of_a_step(samples: TensorSamples) -> float:
    model = models.build("resnet20", SPEC, num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    transform = training_transform(SPEC, "none")
    inputs, targets = next(iter(batches(samples, batch_size=BATCH, shuffle=True, transform=transform)))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    step()
    return fastest_ms(step, repeats=STEPS)


def fastest_ms(function: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begin))
    return min(times)


if __name__ == "__main__":
    main()
