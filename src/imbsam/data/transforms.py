"""From raw samples to model inputs: normalisation and augmentation, a whole batch at a time.

A transform is called as ``transform(raw, generator)``; all its randomness comes from the generator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, InputSpec


@dataclass(frozen=True)
class RowDraws:
    """A source of draws for some rows of a batch: each gets those it would get among all of them.

    Args:
        generator: Source of the draws of the whole batch.
        rows: Places of these rows in it, shape ``(r,)``.
        of: How many rows it has.
    """

    generator: torch.Generator
    rows: Tensor
    of: int


Draws = torch.Generator | RowDraws | None
Transform = Callable[[Tensor, Draws], Tensor]
Augment = Literal["none", "cifar", "imagenet"]

BRIGHTNESS, CONTRAST, SATURATION = range(3)
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue."""


def training_transform(spec: InputSpec, augment: Augment) -> Transform:
    """What training batches go through.

    Args:
        spec: What the model gets to see.
        augment: ``"none"``; ``"cifar"``: random crop after zero padding by an eighth of the side (4 of 32 pixels),
            random flip; ``"imagenet"``: random resized crop, random flip, colour jitter.

    Returns:
        The transform.

    Raises:
        OptionError: If ``augment`` is unknown, or images are to be augmented but the data are a table.
    """
    if augment not in ("none", "cifar", "imagenet"):
        raise OptionError(f"augment must be 'none', 'cifar' or 'imagenet'; got {augment!r}.")
    if augment == "none":
        return evaluation_transform(spec)
    if not isinstance(spec, ImageSpec):
        raise OptionError(f"augment={augment!r} is for images, the data are a table. Use augment='none'.")
    return CifarAugmentation(spec) if augment == "cifar" else ImageNetAugmentation(spec)


def evaluation_transform(spec: InputSpec) -> Transform:
    """What batches go through when nothing is random.

    Args:
        spec: What the model gets to see.

    Returns:
        Normalisation for images; table rows pass as they are.
    """
    return Normalise(spec) if isinstance(spec, ImageSpec) else as_it_is


def as_it_is(rows: Tensor, generator: Draws = None) -> Tensor:
    """Table rows are standardised when they are loaded."""
    return rows


@dataclass(frozen=True)
class Normalise:
    """uint8 ``(b, C, H, W)`` to float32: ``(pixel / 255 - mean) / std`` per channel."""

    spec: ImageSpec

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Normalise; draws nothing."""
        mean = torch.tensor(self.spec.mean).view(-1, 1, 1)
        std = torch.tensor(self.spec.std).view(-1, 1, 1)
        return images.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std)


@dataclass(frozen=True)
class CifarAugmentation:
    """Zero padding, random crop, random horizontal flip, normalisation (He et al. 2016, section 4.2)."""

    spec: ImageSpec

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Crop and flip each image by its own draw.

        Args:
            images: uint8, shape ``(b, C, H, W)``.
            generator: Source of the draws.

        Returns:
            float32, same shape.
        """
        count, _, height, width = images.shape
        pad_y, pad_x = max(1, height // 8), max(1, width // 8)
        padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        top = _whole_numbers(2 * pad_y + 1, count, generator)
        left = _whole_numbers(2 * pad_x + 1, count, generator)
        cropped = windows[torch.arange(count), :, top, left]
        return Normalise(self.spec)(_flip_half(cropped, generator))


@dataclass(frozen=True)
class ImageNetAugmentation:
    """Random resized crop, flip, colour jitter, normalisation (Szegedy et al. 2015; Liu et al. 2019).

    The two halves of a call, :meth:`windows` and :meth:`finish`, can be had apart, so that a store of undecoded images
    cuts the windows out of the full images instead of out of thumbnails.

    Args:
        spec: Size and normalisation of the result.
        area: Smallest and largest share of the image a window covers.
        aspect: Narrowest and widest window, width / height, drawn on a log scale.
        jitter: Brightness, contrast and saturation are each scaled by a factor in ``1 - jitter .. 1 + jitter``.
    """

    spec: ImageSpec
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.4

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Augment each image by its own draws.

        Args:
            images: uint8, shape ``(b, C, H, W)``.
            generator: Source of the draws.

        Returns:
            float32, shape ``(b, C, spec.height, spec.width)``.
        """
        count, _, height, width = images.shape
        boxes = self.windows(torch.tensor([[height, width]]).expand(count, 2), generator)
        size = (self.spec.height, self.spec.width)
        cropped = [
            functional.interpolate(
                image[None, :, top : top + high, left : left + wide], size, mode="bilinear", antialias=True
            )
            for image, (top, left, high, wide) in zip(images, boxes.tolist(), strict=True)
        ]
        return self.finish(torch.cat(cropped), generator)

    def windows(self, sizes: Tensor, generator: Draws = None, attempts: int = 10) -> Tensor:
        """Draw one window per image; where no attempt fits into the image, the largest central one of fair aspect.

        Args:
            sizes: Height and width of each image, shape ``(b, 2)``.
            generator: Source of the draws.
            attempts: Windows drawn per image, the first that fits is taken.

        Returns:
            Top, left, height, width in pixels, shape ``(b, 4)``, int64.
        """
        count = len(sizes)
        height, width = sizes[:, :1].double(), sizes[:, 1:].double()
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        draws = _uniform((4, count, attempts), 1, generator, torch.float64)
        area = height * width * (self.area[0] + draws[0] * (self.area[1] - self.area[0]))
        aspect = (low + draws[1] * (high - low)).exp()
        wide, tall = (area * aspect).sqrt().round().clamp(min=1), (area / aspect).sqrt().round().clamp(min=1)
        fits = (wide <= width) & (tall <= height)
        first = fits.int().argmax(1, keepdim=True)
        central_wide = width.minimum((height * self.aspect[1]).round().clamp(min=1))
        central_tall = height.minimum((width / self.aspect[0]).round().clamp(min=1))
        fitted = fits.any(1, keepdim=True)
        wide = torch.where(fitted, wide.gather(1, first), central_wide)
        tall = torch.where(fitted, tall.gather(1, first), central_tall)
        free_y, free_x = height - tall, width - wide
        top = torch.where(fitted, (draws[2, :, :1] * (free_y + 1)).floor().minimum(free_y), (free_y / 2).floor())
        left = torch.where(fitted, (draws[3, :, :1] * (free_x + 1)).floor().minimum(free_x), (free_x / 2).floor())
        return torch.cat([top, left, tall, wide], 1).long()

    def finish(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Flip, jitter and normalise windows that already have the final size.

        Args:
            images: uint8, shape ``(b, C, spec.height, spec.width)``.
            generator: Source of the draws.

        Returns:
            float32, same shape.
        """
        pixels = _colour_jitter(_flip_half(images, generator).to(torch.float32), self.jitter, generator)
        return Normalise(self.spec)(pixels)


def _uniform(shape: tuple[int, ...], rows: int, generator: Draws, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draws in 0..1 of a shape whose dimension ``rows`` is the batch."""
    if not isinstance(generator, RowDraws):
        return torch.rand(shape, generator=generator, dtype=dtype)
    whole = (*shape[:rows], generator.of, *shape[rows + 1 :])
    return torch.rand(whole, generator=generator.generator, dtype=dtype).index_select(rows, generator.rows)


def _whole_numbers(below: int, count: int, generator: Draws) -> Tensor:
    """A draw in ``0 .. below - 1`` for each image."""
    if not isinstance(generator, RowDraws):
        return torch.randint(below, (count,), generator=generator)
    return torch.randint(below, (generator.of,), generator=generator.generator)[generator.rows]


def _flip_half(images: Tensor, generator: Draws) -> Tensor:
    flip = _uniform((len(images), 1, 1, 1), 0, generator) < 0.5
    return torch.where(flip, images.flip(3), images)


def _colour_jitter(images: Tensor, strength: float, generator: Draws) -> Tensor:
    """Scale brightness, contrast and saturation of float images in 0..255, in an order drawn for each image.

    Every one of the three moves the image away from a base: black, its mean grey, or its own grey picture.
    """
    count = len(images)
    factors = 1 + strength * (2 * _uniform((3, count, 1, 1, 1), 1, generator) - 1)
    order = _uniform((3, count), 1, generator).argsort(0).view(3, count, 1, 1, 1)
    for factor, kind in zip(factors, order, strict=True):
        grey = _grey(images)
        # Row means first: a sum over a whole image may be split over threads, and then depends on their number.
        mean_grey = grey.mean(3, keepdim=True).mean(2, keepdim=True)
        base = torch.where(kind == SATURATION, grey, torch.where(kind == CONTRAST, mean_grey, 0.0))
        images = torch.lerp(base.expand_as(images), images, factor).clamp(0, 255)
    return images


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)
