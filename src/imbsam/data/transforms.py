"""Transforms from raw samples to model inputs: normalisation and augmentation of a whole batch at a time.

A transform is called as ``transform(raw, generator)``; all its randomness comes from the generator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from imbsam.data.draws import Draws, uniform, whole_numbers
from imbsam.data.policies import Policy, policy
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, InputSpec

Transform = Callable[[Tensor, Draws], Tensor]
Augment = Literal["none", "crop", "cifar", "imagenet", "trivial", "randaugment"]

LARGEST_PADDED = 96
"""Longer side in pixels up to which images are padded and cropped; larger ones are cropped and resized."""

Padding = Literal["border", "zeros"]
Flip = Literal["horizontal", "both", "none"]

BRIGHTNESS, CONTRAST, SATURATION = range(3)
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue."""


def training_transform(spec: InputSpec, augment: Augment, flip: Flip = "horizontal") -> Transform:
    """Return the transform of training batches.

    Args:
        spec: Form of the model's inputs.
        augment: ``"none"``; ``"crop"`` for a random crop after padding by an eighth of the side (4 of 32 pixels) with
            the median colour of the image's border, and a random flip; ``"cifar"`` for the same padded with zeros, as
            published for CIFAR; ``"imagenet"`` for a random resized crop, random flip and colour jitter;
            ``"trivial"`` or ``"randaugment"`` for the crop and flip of crop, or of imagenet where a side is above 96
            pixels, followed by that :func:`~imbsam.data.policies.policy` instead of the jitter.
        flip: Flip of augmented images: ``"horizontal"`` mirrors half of them left to right, ``"both"`` also half of
            them top to bottom, ``"none"`` does neither.

    Returns:
        The transform.

    Raises:
        OptionError: If ``augment`` or ``flip`` is unknown, the data are a table or have channels that it cannot take,
            or images that are not augmented are to be flipped both ways.
    """
    if augment not in get_args(Augment):
        raise OptionError(f"augment must be one of {', '.join(get_args(Augment))}; got {augment!r}.")
    if flip not in get_args(Flip):
        raise OptionError(f"flip must be one of {', '.join(get_args(Flip))}; got {flip!r}.")
    if augment == "none":
        if flip == "both":
            raise OptionError("flip='both' is for augmented images, but augment is 'none'. Use augment='crop'.")
        return evaluation_transform(spec)
    if not isinstance(spec, ImageSpec):
        raise OptionError(f"augment={augment!r} is for images, but the data are a table. Use augment='none'.")
    if augment == "crop" or augment == "cifar":
        return PaddedCrop(spec, padding="border" if augment == "crop" else "zeros", flip=flip)
    if spec.channels not in (1, 3):
        raise OptionError(
            f"augment={augment!r} takes grey or RGB images, but these have {spec.channels} channels. "
            "Use augment='crop'."
        )
    if augment == "imagenet":
        return ImageNetAugmentation(spec, flip=flip)
    is_small = max(spec.height, spec.width) <= LARGEST_PADDED
    return (PaddedCrop if is_small else ImageNetAugmentation)(spec, policy=policy(augment, spec), flip=flip)


def evaluation_transform(spec: InputSpec) -> Transform:
    """Return the transform of batches without randomness.

    Args:
        spec: Form of the model's inputs.

    Returns:
        Normalisation for images; table rows are not changed.
    """
    return Normalise(spec) if isinstance(spec, ImageSpec) else as_it_is


def as_it_is(rows: Tensor, generator: Draws = None) -> Tensor:
    """Return table rows unchanged: they are standardised when they are loaded."""
    return rows


@dataclass(frozen=True)
class Normalise:
    """Transform of uint8 ``(b, C, H, W)`` to float32: ``(pixel / 255 - mean) / std`` per channel."""

    spec: ImageSpec

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Normalise images; nothing is drawn."""
        mean = torch.tensor(self.spec.mean).view(-1, 1, 1)
        std = torch.tensor(self.spec.std).view(-1, 1, 1)
        return images.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std)


@dataclass(frozen=True)
class PaddedCrop:
    """Padding, random crop, random flip, and normalisation (He et al. 2016, section 4.2, with zeros).

    Args:
        spec: Size and normalisation of the result.
        padding: ``"border"`` for the median colour of each image's border, so that an object on a plain ground stays on
            it; ``"zeros"`` for black.
        policy: Further augmentation of the cropped images.
        flip: Flip of the cropped images, see :func:`training_transform`.
    """

    spec: ImageSpec
    padding: Padding = "border"
    policy: Policy | None = None
    flip: Flip = "horizontal"

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Crop and flip each image by its own draw.

        Args:
            images: Images, uint8, shape ``(b, C, H, W)``.
            generator: Source of the random draws.

        Returns:
            Images, float32, same shape.
        """
        count, _, height, width = images.shape
        pad_y, pad_x = max(1, height // 8), max(1, width // 8)
        padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y))
        if self.padding == "border":
            outside = functional.pad(
                torch.ones(height, width, dtype=torch.bool), (pad_x, pad_x, pad_y, pad_y)
            ).logical_not()
            padded = torch.where(outside, border_colour(images)[:, :, None, None], padded)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        top = whole_numbers(2 * pad_y + 1, count, generator)
        left = whole_numbers(2 * pad_x + 1, count, generator)
        cropped = windows[torch.arange(count), :, top, left]
        flipped = _flip_half(cropped, self.flip, generator)
        return Normalise(self.spec)(flipped if self.policy is None else self.policy(flipped, generator))


@dataclass(frozen=True)
class ImageNetAugmentation:
    """Random resized crop, flip, colour jitter, and normalisation (Szegedy et al. 2015; Liu et al. 2019).

    The two halves of a call, :meth:`windows` and :meth:`finish`, can be called separately, so that images that are not
    decoded yet can cut the windows out of the full images instead of thumbnails.

    Args:
        spec: Size and normalisation of the result.
        area: Smallest and largest share of the image that a window covers.
        aspect: Narrowest and widest window, width / height, drawn on a log scale.
        jitter: Brightness, contrast and saturation are each scaled by a factor in ``1 - jitter .. 1 + jitter``.
        policy: Augmentation of the windows that replaces the jitter.
        flip: Flip of the windows, see :func:`training_transform`.
    """

    spec: ImageSpec
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.4
    policy: Policy | None = None
    flip: Flip = "horizontal"

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Augment each image by its own draws.

        Args:
            images: uint8, shape ``(b, C, H, W)``.
            generator: Source of the random draws.

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
        """Draw one window per image; if no attempt fits into the image, take the largest central one of allowed aspect.

        Args:
            sizes: Height and width of each image, shape ``(b, 2)``.
            generator: Source of the random draws.
            attempts: Number of windows drawn per image; the first that fits is taken.

        Returns:
            Top, left, height and width in pixels, shape ``(b, 4)``, int64.
        """
        count = len(sizes)
        height, width = sizes[:, :1].double(), sizes[:, 1:].double()
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        draws = uniform((4, count, attempts), 1, generator, torch.float64)
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
            generator: Source of the random draws.

        Returns:
            float32, same shape.
        """
        flipped = _flip_half(images, self.flip, generator)
        if self.policy is not None:
            return Normalise(self.spec)(self.policy(flipped, generator))
        return Normalise(self.spec)(_colour_jitter(flipped.to(torch.float32), self.jitter, generator))


def border_colour(images: Tensor) -> Tensor:
    """Return the median of the outermost pixels of each channel, shape ``(b, C)``, of images ``(b, C, H, W)``."""
    edges = [images[:, :, 0], images[:, :, -1], images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]]
    return torch.cat(edges, 2).median(2).values


def _flip_half(images: Tensor, flip: Flip, generator: Draws) -> Tensor:
    """Mirror half of the images left to right, and half top to bottom."""
    for axis in () if flip == "none" else (3,) if flip == "horizontal" else (3, 2):
        is_mirrored = uniform((len(images), 1, 1, 1), 0, generator) < 0.5
        images = torch.where(is_mirrored, images.flip(axis), images)
    return images


def _colour_jitter(images: Tensor, strength: float, generator: Draws) -> Tensor:
    """Scale brightness, contrast and saturation of float images in 0..255, in an order drawn for each image.

    Each of the three moves the image away from a base: black, its mean grey, or its own grey version.
    """
    count = len(images)
    factors = 1 + strength * (2 * uniform((3, count, 1, 1, 1), 1, generator) - 1)
    order = uniform((3, count), 1, generator).argsort(0).view(3, count, 1, 1, 1)
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
