"""Reader of scikit-learn's bundled digits: 1797 grey images of 8x8 pixels, 10 classes."""

import torch
from sklearn.datasets import load_digits

from imbsam.data.sources.raw import Part, Raw


def read_digits() -> Raw:
    """Read the digits; pixel values 0..16 are stretched to 0..255.

    Returns:
        One part of 1797 images, uint8 ``(1797, 1, 8, 8)``.
    """
    digits = load_digits()
    pixels = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    targets = torch.from_numpy(digits.target).long()
    names = [str(row) for row in range(1, len(targets) + 1)]
    return Raw("digits", tuple("0123456789"), {"train": Part(pixels, targets, names)})
