"""The data sets of the recipes with the true files and numbers of images, but few and small pictures behind them."""

import os
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from imbsam.data.layouts import Layout


def class_counts(layout: Layout) -> list[int]:
    """Training images of each class, as many as the layout has, the most frequent and the rarest class as large."""
    classes, total = layout.classes, layout.samples["train"]
    falling = 1 - np.arange(classes) / (classes - 1)

    def counts(power: float) -> np.ndarray:
        return (layout.smallest + (layout.largest - layout.smallest) * falling**power).astype(int)

    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if counts(middle).sum() > total else (low, middle)
    found = counts(high)
    found[1 : 1 + total - found.sum()] += 1
    return [int(count) for count in found]


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    return path


def list_of(root: Path, name: str, folders: list[str], file: str, counts: list[int], one: Path) -> None:
    """Write a list whose classes have one picture each, named as often as the class has images."""
    lines = []
    for label, (folder, count) in enumerate(zip(folders, counts, strict=True)):
        path = root / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(one, path)
        lines += [f"{folder}/{file} {label}"] * count
    (root / name).write_text("\n".join(lines) + "\n")


def imagenet_lt(root: Path, layout: Layout) -> Path:
    one = picture(root / "one.JPEG")
    ids = [f"n{1440764 + label:08}" for label in range(layout.classes)]
    train, test = [f"train/{name}" for name in ids], [f"val/{name}" for name in ids]
    val, tested = (layout.samples[part] // layout.classes for part in ("validation", "test"))
    list_of(root, "ImageNet_LT_train.txt", train, "a_190.JPEG", class_counts(layout), one)
    list_of(root, "ImageNet_LT_val.txt", train, "a_191.JPEG", [val] * layout.classes, one)
    list_of(root, "ImageNet_LT_test.txt", test, "ILSVRC2012_val_1.JPEG", [tested] * layout.classes, one)
    return root


def inaturalist_2018(root: Path, layout: Layout) -> Path:
    one = picture(root / "one.jpg")
    folders = [f"train_val2018/Plantae/{label}" for label in range(layout.classes)]
    val = layout.samples["validation"] // layout.classes
    list_of(root, "iNaturalist18_train.txt", folders, "3b60c948.jpg", class_counts(layout), one)
    list_of(root, "iNaturalist18_val.txt", folders, "a41c2b77.jpg", [val] * layout.classes, one)
    return root


def cifar_100(root: Path, layout: Layout) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        labels = [row % layout.classes for row in range(layout.samples[part])]
        pixels = draw.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        record = {"data": pixels, "fine_labels": labels, "coarse_labels": [label // 5 for label in labels]}
        (folder / part).write_bytes(pickle.dumps(record, protocol=2))
    names = [f"class {label}" for label in range(layout.classes)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": []}, protocol=2))
    return root


MAKERS = {"cifar100-lt": cifar_100, "imagenet-lt": imagenet_lt, "inaturalist-2018": inaturalist_2018}
"""By the recipe that they are of."""
