"""Layers before the dense ones: none for the rows of a table, a small convolutional network for images."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import nn

from imbsam.errors import OptionError

KERNEL = 5
SMALLEST_SIDE = 7
MOST_CHANNELS = 128


def encoder(shape: Sequence[int], dense: Callable[[int], nn.Module], *, bias: bool = True) -> nn.Module:
    """Build dense layers, for images on top of the convolutional network of Deep SAD.

    The network is the LeNet published for Fashion-MNIST (16 and 32 channels) and CIFAR-10 (32, 64 and 128), extended
    to other sizes: at least two convolutions of 5 x 5, each of which halves the image, until no side is longer than 7.

    Args:
        shape: Shape of a row, ``(columns,)`` or ``(channels, height, width)``.
        dense: Function that makes the dense layers, given the number of their inputs.
        bias: ``True`` for convolutions with a bias, and ReLU; ``False``, as published, for no bias, BatchNorm without
            scale and shift, and leaky ReLU.

    Returns:
        Network from rows ``(B, *shape)``.

    Raises:
        OptionError: If the shape is neither a row's nor an image's.
    """
    if len(shape) == 1:
        return dense(shape[0])
    sizes = _sizes(shape)
    layers: list[nn.Module] = []
    for (inputs, *_), (outputs, *_) in pairwise(sizes):
        # Odd sides are rounded up, so that the decoder has something to start from at any size.
        layers += [_convolution(inputs, outputs, bias), *_activation(outputs, bias), nn.MaxPool2d(2, ceil_mode=True)]
    return nn.Sequential(*layers, nn.Flatten(), dense(prod(sizes[-1])))


def decoder(shape: Sequence[int], dense: Callable[[int], nn.Module], *, bias: bool = True) -> nn.Module:
    """Build the mirror of :func:`encoder`, back to rows.

    Args:
        shape: Shape of a row, ``(columns,)`` or ``(channels, height, width)``.
        dense: Function that makes the dense layers, given the number of their outputs.
        bias: See :func:`encoder`.

    Returns:
        Network to rows ``(B, *shape)``, whose last layer is linear.
    """
    if len(shape) == 1:
        return dense(shape[0])
    sizes = _sizes(shape)[::-1]
    layers: list[nn.Module] = [dense(prod(sizes[0])), nn.Unflatten(1, tuple(sizes[0]))]
    for (inputs, *_), (outputs, *sides) in pairwise(sizes):
        layers += [*_activation(inputs, bias), nn.Upsample(tuple(sides)), _convolution(inputs, outputs, bias)]
    return nn.Sequential(*layers)


def _sizes(shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return channels, height and width of the image and after each convolution."""
    if len(shape) != 3 or min(shape) < 1:
        raise OptionError(f"rows have shape (columns,) or, of images, (channels, height, width); got {tuple(shape)}.")
    sizes = [(shape[0], shape[1], shape[2])]
    channels = 16 if max(shape[1:]) <= 4 * SMALLEST_SIDE else 32
    while len(sizes) < 3 or max(sizes[-1][1:]) > SMALLEST_SIDE:
        _, height, width = sizes[-1]
        sizes.append((channels, -(-height // 2), -(-width // 2)))
        channels = min(2 * channels, MOST_CHANNELS)
    return sizes


def _convolution(inputs: int, outputs: int, bias: bool) -> nn.Conv2d:
    # On the meta device nothing is drawn from torch's global generator.
    layer = nn.Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2, bias=bias, device="meta")
    return layer.to_empty(device="cpu")


def _activation(channels: int, bias: bool) -> list[nn.Module]:
    if bias:
        return [nn.ReLU()]
    return [nn.BatchNorm2d(channels, eps=1e-4, affine=False), nn.LeakyReLU(0.01)]
