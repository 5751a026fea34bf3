"""Notes for the user on the images of a data set."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from imbsam.data.dataset import Samples
from imbsam.data.decoding import Header
from imbsam.data.depth import Ranges
from imbsam.data.sources.raw import listed
from imbsam.errors import DataError

SMALLEST_SHARE = 16
"""Denominator of the smallest share of the 256 values that the pixels must span to count as visible."""

OUTLIERS = 0.001
"""Share of the pixels that may lie outside that range, since single hot pixels do not make an image bright."""

BLOCK = 4096
"""Number of images that are examined together."""

SPOTS = 128
"""Number of images that are decoded for notes where there are too many to decode all."""


def header_notes(images: Sequence[tuple[str, Header]], ranges: Ranges) -> list[str]:
    """Name the images with several frames, with transparency, and with more than 8 bits a value.

    Args:
        images: Name and header of each.
        ranges: For each depth, the values that become 0 and 255.
    """
    notes: list[str] = []
    frames = [name for name, header in images if header.frames]
    if frames:
        notes.append(f"{_images(frames)} several pages or frames, of which the first is used: {listed(frames)}.")
    transparent = [name for name, header in images if header.transparent]
    if transparent:
        notes.append(f"{_images(transparent)} an alpha channel or a transparent colour; what lies behind is white.")
    if ranges and not any(header.depth for _, header in images):
        notes.append(
            f"these images hold at most 8 bits a value, and training images held {' and '.join(ranges)} values: "
            "each keeps the range of its own file."
        )
    for depth, (low, high) in ranges.items():
        deep = [(name, header.values) for name, header in images if header.depth == depth]
        if not deep:
            continue
        others = ", the others by ranges of their own" if len(deep) < len(images) else ""
        notes.append(
            f"{len(deep)} of {len(images)} images hold {depth} values: {low:g} to {high:g} become 0 to 255{others}."
        )
        outside = [name for name, values in deep if values and (values[0] < low or values[1] > high)]
        if outside:
            notes.append(
                f"{_images(outside)} {depth} values outside {low:g} to {high:g}, the range of training, which are cut "
                f"off there: {listed(outside)}."
            )
    return notes


def constant_note(values: Tensor, names: Sequence[str]) -> list[str]:
    """Name the images of a single colour.

    Args:
        values: Images, uint8 ``(N, C, H, W)``.
        names: N names.
    """
    if values[:1, :1].numel() <= 1:
        return []
    constant = [
        names[number]
        for begin in range(0, len(values), BLOCK)
        for number in (_constant(values[begin : begin + BLOCK]).nonzero().flatten() + begin).tolist()
    ]
    one = "image is" if len(constant) == 1 else "images are"
    return [f"{len(constant)} {one} of one colour alone: {listed(constant)}."] if constant else []


def contrast_note(levels: Tensor) -> list[str]:
    """Warn if almost all training pixels have nearly one value.

    Args:
        levels: Count of each of the 256 values, shape ``(256,)``, float64.
    """
    share = levels.cumsum(0) / levels.sum()
    low, high = int((share > OUTLIERS / 2).nonzero()[0]), int((share >= 1 - OUTLIERS / 2).nonzero()[0])
    if high - low >= 256 // SMALLEST_SHARE:
        return []
    return [
        f"the training images use {low} to {high} of the values 0 to 255 and little else: they are almost of one "
        "colour. Scale them before, if they are not meant to be."
    ]


def spot_notes(samples: Samples) -> list[str]:
    """Make the same two notes from some images, evenly spread, where not all are decoded at once.

    Args:
        samples: Training images.
    """
    spread = torch.linspace(0, len(samples) - 1, min(len(samples), SPOTS)).long().tolist()
    pixels: list[Tensor] = []
    names: list[str] = []
    for number in spread:
        # One that cannot be read is told when its batch comes.
        with suppress(DataError):
            pixels.append(samples.batch(torch.tensor([number])))
            names.append(samples.names[number])
    if not pixels:
        return []
    values = torch.cat(pixels)
    found = constant_note(values, names) + contrast_note(torch.bincount(values.flatten(), minlength=256).double())
    return [f"of {len(names)} training images examined: {note}" for note in found]


def _images(names: Sequence[str]) -> str:
    return "1 image has" if len(names) == 1 else f"{len(names)} images have"


def _constant(values: Tensor) -> Tensor:
    return (values.amin((2, 3)) == values.amax((2, 3))).all(1)
