"""One image: from an encoded file to uint8 pixels of the wanted shape."""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from imbsam.data.sources.raw import Encoded

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What Pillow may try; its other decoders (some start other programs) stay closed."""

GREY_MODES = frozenset(("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"))

UNREADABLE = Exception
"""Decoders raise whatever a damaged file leads them into: OSError, SyntaxError, ValueError, struct.error, ..."""

Picture = Encoded | Tensor
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What an image's first bytes tell."""

    height: int
    width: int
    grey: bool


@dataclass(frozen=True)
class Geometry:
    """The shape all images get, and how: the largest centred box of that aspect, shrunk by ``crop``, resized."""

    channels: int
    height: int
    width: int
    crop: float

    def centre(self, height: int, width: int) -> Box:
        """Left, top, right, bottom of what stays of an image of this size."""
        scale = self.crop * min(height / self.height, width / self.width)
        tall, wide = min(scale * self.height, height), min(scale * self.width, width)
        return ((width - wide) / 2, (height - tall) / 2, (width + wide) / 2, (height + tall) / 2)


def read_header(picture: Picture) -> Header:
    """Read size and colours without decoding the pixels."""
    with _opened(picture) as image:
        return Header(image.height, image.width, image.mode in GREY_MODES)


def decode(picture: Picture, geometry: Geometry, box: Box) -> np.ndarray:
    """Decode, cut out a box and resize it.

    Args:
        picture: Encoded image, or uint8 pixels ``(C, H, W)``.
        geometry: Shape of the result.
        box: What to cut out of the image.

    Returns:
        uint8, shape ``(geometry.channels, geometry.height, geometry.width)``.

    Raises:
        Exception: Whatever the decoder raises on a damaged file.
    """
    size = (geometry.width, geometry.height)
    with _opened(picture) as image:
        converted = _converted(image, "L" if geometry.channels == 1 else "RGB")
        if converted.size != size or box != (0, 0, *size):
            converted = converted.resize(size, Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(converted)
    return pixels[None] if geometry.channels == 1 else pixels.transpose(2, 0, 1)


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Tensor):
        return Image.fromarray(picture[0].numpy() if len(picture) == 1 else picture.permute(1, 2, 0).numpy())
    return Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS)


def _converted(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # 16 bits a pixel: Pillow's own conversion would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert(mode)


def reason(error: BaseException) -> str:
    """Why an image could not be read, in words for its user."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image that can be read ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large for an image, and refused ({error})"
    return f"cannot be read as an image ({error})"


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[int], T], count: int, threads: int) -> list[T]:
    """``[function(0), ..., function(count - 1)]``; Pillow decodes outside the interpreter's lock."""
    if threads == 1 or count < 2:
        return [function(number) for number in range(count)]
    size = max(1, min(64, -(-count // threads)))
    pieces = [range(begin, min(begin + size, count)) for begin in range(0, count, size)]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda piece: [function(number) for number in piece], pieces)
        return [result for piece in done for result in piece]
