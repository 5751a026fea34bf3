"""The images a study draws from: every class equally often, and what a seed makes of them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imbsam.data import Dataset, TensorSamples, load, long_tail_counts
from imbsam.inputs import ImageSpec
from imbsam.storage.files import written_aside

POOL = {"cifar10": 1000, "fashion-mnist": 600}
"""Samples of the most frequent class: a fifth and a tenth of what there is."""
VALIDATION = 100
"""Validation images of each class, of those that are not trained on."""


@dataclass(frozen=True)
class Pool:
    """All images of a data set, and those for testing."""

    images: Tensor
    targets: Tensor
    test_images: Tensor
    test_targets: Tensor


def read(name: str, sources: Path) -> Pool:
    """Read a data set once; a copy of the decoded images is kept in ``sources``.

    Args:
        name: One of :data:`POOL`.
        sources: A folder with the data set under that name, as the command takes it.
    """
    kept = sources / f"{name}.pt"
    if not kept.exists():
        whole = load(str(sources / name), validation_fraction=0.0)
        parts = [whole.train, whole.test]
        tensors = [t for part in parts for t in (part.batch(torch.arange(len(part))), part.targets)]
        # Several processes may come here at once.
        with written_aside(kept) as file:
            torch.save(tensors, file)
    return Pool(*torch.load(kept, weights_only=True))


def drawn(name: str, pool: Pool, imbalance: float, seed: int) -> Dataset:
    """What a seed makes of a pool: which classes are rare, which images train and which validate.

    Class 0 is the most frequent one and the last the rarest, whatever they show. All test images are kept.
    """
    draw = torch.Generator().manual_seed(seed)
    classes = int(pool.targets.max()) + 1
    place = torch.randperm(classes, generator=draw).argsort()
    targets, test_targets = place[pool.targets], place[pool.test_targets]
    counts = long_tail_counts(torch.full((classes,), POOL[name]), imbalance)
    train, validation = [], []
    for index, count in enumerate(counts.tolist()):
        rows = (targets == index).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=draw)]
        validation.append(rows[:VALIDATION])
        train.append(rows[VALIDATION : VALIDATION + count])
    kept, held = torch.cat(train), torch.cat(validation)
    values = pool.images[kept].float() / 255
    spec = ImageSpec(
        *pool.images.shape[1:],
        mean=tuple(values.mean(dim=(0, 2, 3)).tolist()),
        std=tuple(values.std(dim=(0, 2, 3)).tolist()),
    )
    return Dataset(
        name=name,
        classes=tuple(str(index) for index in range(classes)),
        train=_samples(pool.images[kept], targets[kept]),
        validation=_samples(pool.images[held], targets[held]),
        test=_samples(pool.test_images, test_targets),
        spec=spec,
        preprocess={},
    )


def _samples(images: Tensor, targets: Tensor) -> TensorSamples:
    return TensorSamples(images, targets, range(len(targets)))
