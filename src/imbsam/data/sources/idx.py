"""Reader of the IDX files of MNIST, Fashion-MNIST, KMNIST and similar sets, plain or gzipped."""

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from imbsam.data.sources.raw import Part, PartName, Raw
from imbsam.data.sources.walk import beside
from imbsam.errors import DataError

STEMS: dict[PartName, str] = {"train": "train", "test": "t10k"}
NAMES = {part: (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte") for part, stem in STEMS.items()}
LARGEST = 2**31
"""Largest size of an unpacked file in bytes; MNIST's largest has 47 million."""


def is_idx_folder(folder: Path) -> bool:
    """Return whether the folder contains the training images."""
    return _found(folder, NAMES["train"][0]) is not None


def read_idx(folder: Path) -> Raw:
    """Read the four files.

    Args:
        folder: Folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and, if there are test data, the
            same under ``t10k``; each with or without ``.gz``.

    Returns:
        Training and test part, uint8 ``(N, 1, H, W)``.

    Raises:
        DataError: If a file is missing or damaged, or images and labels do not match.
    """
    parts = {}
    used: list[Path] = []
    for part, names in NAMES.items():
        found = [path for name in names if (path := _found(folder, name)) is not None]
        if part == "train" or found:
            parts[part] = _part(folder, *names)
            used += found
    classes = 1 + max(int(part.targets.max()) for part in parts.values())
    return Raw(folder.resolve().name, tuple(map(str, range(classes))), parts, beside(folder, used))


def _part(folder: Path, images: str, labels: str) -> Part:
    pixels, targets = _array(folder, images, 3), _array(folder, labels, 1)
    if len(pixels) != len(targets) or not len(targets):
        raise DataError(f"{folder}: {images} has {len(pixels)} images and {labels} {len(targets)} labels.")
    names = [f"{images} {row}" for row in range(1, len(targets) + 1)]
    return Part(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(targets).long(), names)


def _array(folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = _found(folder, name)
    if path is None:
        raise DataError(f"{folder}: {name} is missing, with or without .gz.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Download it again.") from error
    if len(data) > LARGEST:
        raise DataError(f"{path}: holds more than {LARGEST} bytes; this is not an MNIST file.")
    # Two zero bytes, the type (8: uint8), the number of dimensions, each dimension as a big-endian 32-bit number.
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < header:
        raise DataError(f"{path}: is not an IDX file of bytes with {dimensions} dimensions.")
    shape = tuple(int(size) for size in np.frombuffer(data[4:header], ">u4"))
    if len(data) - header != math.prod(shape):
        raise DataError(f"{path}: promises {' x '.join(map(str, shape))} bytes and holds {len(data) - header}.")
    return np.frombuffer(bytearray(data[header:]), np.uint8).reshape(shape)


def _found(folder: Path, name: str) -> Path | None:
    # Some distributions write a dot before the type: train-images.idx3-ubyte.
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [folder / f"{spelling}{end}" for spelling in spellings for end in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)
