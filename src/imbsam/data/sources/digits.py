"""Reader of scikit-learn's bundled digits: 1797 grey images of 8x8 pixels, 10 classes."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imbsam.data.sources.raw import Part, Raw

FILE = Path("datasets", "data", "digits.csv.gz")
"""File within scikit-learn: a line holds 64 pixels of 0..16 and the class."""


def read_digits() -> Raw:
    """Read the digits; pixel values 0..16 are stretched to 0..255.

    Returns:
        One part of 1797 images, uint8 ``(1797, 1, 8, 8)``.
    """
    rows = torch.from_numpy(_rows())
    pixels = (rows[:, :-1].view(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    targets = rows[:, -1].long()
    names = [str(row) for row in range(1, len(targets) + 1)]
    return Raw("digits", tuple("0123456789"), {"train": Part(pixels, targets, names)})


def _rows() -> NDArray[np.float64]:
    """Read the lines of the file without the package, whose import takes longer than a first epoch."""
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        if (file := Path(folder) / FILE).is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    return np.column_stack([pixels, targets])
