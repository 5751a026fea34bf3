"""Damaged copies of a file: cut, bits flipped."""

from collections.abc import Iterator

import numpy as np


def cuts(content: bytes) -> Iterator[bytes]:
    """The first sixteenths of it, from none to fifteen."""
    return (content[: len(content) * part // 16] for part in range(16))


def flips(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """One bit of it changed, at places drawn at random; a short file has fewer of them."""
    bits = 8 * len(content)
    for place in np.random.default_rng(seed).choice(bits, min(count, bits), replace=False).tolist():
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)
