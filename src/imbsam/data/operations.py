"""Operations of automatic augmentation, each on a batch of uint8 images as Pillow does it on one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.inputs import ImageSpec

Apply = Callable[[Tensor, Tensor], Tensor]
"""Function of uint8 images ``(b, C, H, W)`` and an amount for each, float64 ``(b,)``, that returns such images."""

FIXED = 65536
"""Fractions of a pixel, in whole numbers of which Pillow computes the source of a pixel."""


@dataclass(frozen=True)
class Operation:
    """Operation on an image, and the range of its amount.

    Args:
        name: Name of the operation.
        apply: Function that does it.
        low: Amount at strength 0.
        high: Amount at strength 1.
        signed: Whether the amount is negated for half of the images.
    """

    name: str
    apply: Apply
    low: float = 0.0
    high: float = 0.0
    signed: bool = False


def operations(spec: ImageSpec, *, wide: bool) -> tuple[Operation, ...]:
    """Return every operation that images of this kind can take, at the strengths of a policy.

    Args:
        spec: Form of the images. Grey images have no colour to change, and lack that operation.
        wide: Use the strengths of TrivialAugment wide (Müller and Hutter 2021, table 7), with shifts of up to 32 pixels
            but at most the side; otherwise those of RandAugment (Cubuk et al. 2020), with shifts of up to 150 / 331 of
            the side.

    Returns:
        The operations, always in the same order.
    """
    shift_x, shift_y = (float(min(32, side)) if wide else 150 / 331 * side for side in (spec.width, spec.height))
    factor, shear, angle, bits = (0.99, 0.99, 135.0, 6.0) if wide else (0.9, 0.3, 30.0, 4.0)
    table = (
        Operation("identity", identity),
        Operation("shear-x", shear_x, 0, shear, signed=True),
        Operation("shear-y", shear_y, 0, shear, signed=True),
        Operation("translate-x", translate_x, 0, shift_x, signed=True),
        Operation("translate-y", translate_y, 0, shift_y, signed=True),
        Operation("rotate", rotate, 0, angle, signed=True),
        Operation("brightness", brightness, 0, factor, signed=True),
        Operation("color", color, 0, factor, signed=True),
        Operation("contrast", contrast, 0, factor, signed=True),
        Operation("sharpness", sharpness, 0, factor, signed=True),
        Operation("posterize", posterize, 0, bits),
        Operation("solarize", solarize, 255, 0),
        Operation("autocontrast", autocontrast),
        Operation("equalize", equalize),
    )
    return table if spec.channels == 3 else tuple(each for each in table if each.apply is not color)


def identity(images: Tensor, amount: Tensor) -> Tensor:
    """Return the images unchanged."""
    return images


def shear_x(images: Tensor, amount: Tensor) -> Tensor:
    """Take each pixel from ``amount`` times its row further right; pixels from outside are black."""
    return _affine(images, [(1, a, 0, 0, 1, 0) for a in amount.tolist()])


def shear_y(images: Tensor, amount: Tensor) -> Tensor:
    """Take each pixel from ``amount`` times its column further down; pixels from outside are black."""
    return _affine(images, [(1, 0, 0, a, 1, 0) for a in amount.tolist()])


def translate_x(images: Tensor, amount: Tensor) -> Tensor:
    """Take each pixel from ``amount`` pixels further right, in whole pixels."""
    return _affine(images, [(1, 0, int(a), 0, 1, 0) for a in amount.tolist()])


def translate_y(images: Tensor, amount: Tensor) -> Tensor:
    """Take each pixel from ``amount`` pixels further down, in whole pixels."""
    return _affine(images, [(1, 0, 0, 0, 1, int(a)) for a in amount.tolist()])


def rotate(images: Tensor, amount: Tensor) -> Tensor:
    """Rotate images counter-clockwise about the centre, by degrees."""
    x, y = images.shape[3] / 2, images.shape[2] / 2
    # In Python's numbers: torch's cosine of a vector may differ in the last bit by where in it a number stands.
    turns = [(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in amount.tolist()]
    return _affine(images, [(c, -s, x - c * x + s * y, s, c, y - s * x - c * y) for c, s in turns])


def brightness(images: Tensor, amount: Tensor) -> Tensor:
    """Move images away from black by the factor ``1 + amount``."""
    return _blend(torch.zeros_like(images), images, amount)


def color(images: Tensor, amount: Tensor) -> Tensor:
    """Move images of three channels away from their grey version."""
    return _blend(_grey(images), images, amount)


def contrast(images: Tensor, amount: Tensor) -> Tensor:
    """Move images away from their mean grey."""
    # In whole numbers: a sum of floats over an image may be split over threads, and then depends on their number.
    total = _grey(images).long().sum((1, 2, 3), keepdim=True)
    mean = (total.double() / (images.shape[2] * images.shape[3]) + 0.5).floor()
    return _blend(mean, images, amount)


def sharpness(images: Tensor, amount: Tensor) -> Tensor:
    """Move images away from a smoothed version, whose border is unchanged."""
    if min(images.shape[2:]) < 3:
        return images
    high, wide = images.shape[2] - 2, images.shape[3] - 2
    whole = images.int()
    around = sum(whole[:, :, y : y + high, x : x + wide] for y in range(3) for x in range(3))
    smooth = images.double()
    smooth[:, :, 1:-1, 1:-1] = ((around + 4 * whole[:, :, 1:-1, 1:-1]).double() / 13 + 0.5).floor()
    return _blend(smooth, images, amount)


def posterize(images: Tensor, amount: Tensor) -> Tensor:
    """Clear the lowest bits, as many as the rounded amount."""
    unit = (2 ** amount.round()).to(images.dtype).view(-1, 1, 1, 1)
    return images // unit * unit


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Invert the pixels with a value of at least ``amount``."""
    return torch.where(images >= amount.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel with a single value is unchanged."""
    flat = images.flatten(2)
    low, high = flat.amin(2, keepdim=True).double(), flat.amax(2, keepdim=True).double()
    scale = 255 / (high - low).clamp(min=1)
    table = (torch.arange(256) * scale - low * scale).trunc()
    return _looked_up(images, torch.where(high > low, table, torch.arange(256)))


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Make the values of each channel equally frequent, as far as whole values allow."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long).scatter_add_(2, flat, torch.ones_like(flat))
    of_highest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - of_highest) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return _looked_up(images, torch.where(step > 0, table, torch.arange(256)))


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    table = table.clamp(0, 255).to(torch.uint8)
    return table.gather(2, images.flatten(2).long()).view(images.shape)


def _blend(base: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    base, factor = base.float(), (1 + amount).float().view(-1, 1, 1, 1)
    return (base + factor * (images.float() - base)).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Convert to grey by ITU-R BT.601 in whole numbers, as Pillow does."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).unsqueeze(1)


def _affine(images: Tensor, matrices: list[tuple[float, ...]]) -> Tensor:
    """Take each pixel from the nearest one at ``(a x + b y + c, d x + e y + f)``; black where there is none."""
    count, channels, height, width = images.shape
    a, b, c, d, e, f = torch.tensor(matrices, dtype=torch.float64).T.reshape(6, count, 1, 1)
    x, y = torch.arange(width).view(1, 1, -1), torch.arange(height).view(1, -1, 1)
    source_x = (_fixed(c + a / 2 + b / 2) + _fixed(a) * x + _fixed(b) * y) >> 16
    source_y = (_fixed(f + d / 2 + e / 2) + _fixed(d) * x + _fixed(e) * y) >> 16
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    place = (source_y * width + source_x).where(inside, 0).view(count, 1, -1).expand(-1, channels, -1)
    taken = images.flatten(2).gather(2, place).view(images.shape)
    return taken * inside.unsqueeze(1)


def _fixed(value: Tensor) -> Tensor:
    return (value * FIXED + 0.5).floor().long()
