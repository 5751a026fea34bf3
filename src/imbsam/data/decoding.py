"""Decoding of one image: from an encoded file to upright uint8 pixels of a given shape."""

import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from imbsam.data.depth import Depth, Range, Ranges, deep_pixels, depth_of, eight_bits, raw_mode
from imbsam.data.formats import open_image
from imbsam.data.sources.raw import Encoded

GREY_MODES = frozenset(("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"))

UNREADABLE = Exception
"""Exceptions that decoders raise on damaged files: OSError, SyntaxError, ValueError, struct.error, ..."""

Picture = Encoded | Tensor
Fit = Literal["crop", "pad"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

_ORIENTATION = 0x0112
_METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Keys under which Pillow keeps metadata that may contain an orientation."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operations that turn an image of each EXIF orientation upright; the last four swap height and width."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """Properties of an image that are known before its pixels are.

    Args:
        height: Height of the upright image in pixels.
        width: Width of the upright image in pixels.
        grey: Whether the image has no colours.
        transparent: Whether the image has an alpha channel or a transparent colour.
        frames: Whether the image has several pages or frames, of which the first is used.
        depth: Type of the values if they have more than 8 bits.
        values: Smallest and largest value; None where they were not measured.
    """

    height: int
    width: int
    grey: bool
    transparent: bool = False
    frames: bool = False
    depth: Depth | None = None
    values: Range | None = None


@dataclass(frozen=True)
class Geometry:
    """Shape of all images, and how they get it: a centred box of that aspect is cut out and resized.

    Args:
        channels: Number of channels.
        height: Height in pixels.
        width: Width in pixels.
        crop: With ``fit="crop"``, share of the largest box inside the image that is kept.
        fit: ``"crop"`` for the largest box inside the image; ``"pad"`` for the smallest box around it.
    """

    channels: int
    height: int
    width: int
    crop: float
    fit: Fit = "crop"

    @property
    def fitting(self) -> dict[str, object]:
        """Return what has to be known of it beside the shape, to read further images in the same way."""
        return {"crop": self.crop, "fit": self.fit}

    def centre(self, height: int, width: int) -> Box:
        """Return left, top, right and bottom of the box for an image of this size."""
        if self.fit == "pad":
            scale = max(height / self.height, width / self.width)
            tall, wide = max(scale * self.height, height), max(scale * self.width, width)
        else:
            scale = self.crop * min(height / self.height, width / self.width)
            tall, wide = min(scale * self.height, height), min(scale * self.width, width)
        return ((width - wide) / 2, (height - tall) / 2, (width + wide) / 2, (height + tall) / 2)


def read_header(picture: Picture) -> Header:
    """Read size, colours and depth without decoding the pixels."""
    if isinstance(picture, Tensor):
        channels, height, width = picture.shape
        return Header(height, width, channels == 1)
    with open_image(picture) as image:
        width, height = image.size if _orientation(image) < 5 else image.size[::-1]
        depth, transparent = depth_of(image), image.has_transparency_data
        return Header(height, width, _is_grey(image), transparent, _has_frames(image), depth)


def measured_header(picture: Picture) -> Header:
    """Read the header, and decode an image of more than 8 bits a value for the range of its values."""
    header = read_header(picture)
    if header.depth is None or isinstance(picture, Tensor):
        return header
    return replace(header, values=deep_pixels(picture).range)


def decode(picture: Picture, geometry: Geometry, box: Box, ranges: Ranges) -> np.ndarray:
    """Decode an image, turn it upright, put it on white, scale it to 8 bits, cut out a box and resize it.

    Args:
        picture: Encoded image, or uint8 pixels ``(C, H, W)``.
        geometry: Shape of the result.
        box: Box to cut out of the upright image; outside the image it gets the median colour of the image's border.
        ranges: For each depth, the values that become 0 and 255.

    Returns:
        Pixels, uint8, shape ``(geometry.channels, geometry.height, geometry.width)``.

    Raises:
        Exception: Any exception that the decoder raises on a damaged file.
    """
    size = (geometry.width, geometry.height)
    converted = _converted(_seen(picture, ranges), "L" if geometry.channels == 1 else "RGB")
    if converted.size != size or box != (0, 0, *size):
        is_inside = min(box[:2]) >= 0 and box[2] <= converted.width and box[3] <= converted.height
        converted = _resized(converted, size, box) if is_inside else _padded(converted, size, box)
    pixels = np.asarray(converted)
    return pixels[None] if geometry.channels == 1 else pixels.transpose(2, 0, 1)


def _resized(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=box)


def _padded(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """Resize a box with the whole image in it; the rest gets the median colour of the image's border."""
    left, top, right, bottom = box
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    median = np.atleast_1d(np.median(border, axis=0)).round().astype(int).tolist()
    wide = max(1, round(image.width * size[0] / (right - left)))
    tall = max(1, round(image.height * size[1] / (bottom - top)))
    canvas = Image.new(image.mode, size, tuple(median))
    canvas.paste(_resized(image, (wide, tall)), ((size[0] - wide) // 2, (size[1] - tall) // 2))
    return canvas


def _seen(picture: Picture, ranges: Ranges) -> Image.Image:
    """Return the first frame, upright, opaque, with 8 bits a value."""
    if isinstance(picture, Tensor):
        return Image.fromarray(picture[0].numpy() if len(picture) == 1 else picture.permute(1, 2, 0).numpy())
    with open_image(picture) as image:
        orientation, depth = _orientation(image), depth_of(image)
        if depth is None:
            image.load()
            seen = _over_white(image)
        else:
            seen = eight_bits(deep_pixels(picture), ranges[depth])
    return seen.transpose(_TURNS[orientation]) if orientation > 1 else seen


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("LA") if image.mode == "La" else image.convert("RGBA")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def _converted(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    if image.mode == "LAB":
        # There is no way to grey but through RGB.
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation that is still to be applied, 1 to 8; read before the pixels."""
    # Pillow turns TIFF files itself, and says their size as it is afterwards.
    if image.format == "TIFF":
        return 1
    try:
        if image.format == "PNG" and "exif" not in image.info:
            _add_late_exif(image)
        if image.info.keys().isdisjoint(_METADATA):
            return 1
        # PNG's own getexif would decode the pixels to find what stands behind them.
        found = Image.Image.getexif(image).get(_ORIENTATION)
    except UNREADABLE:
        # As every viewer does: metadata that are damaged turn nothing.
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _add_late_exif(image: ImageFile.ImageFile) -> None:
    """Search for EXIF behind the pixels of a PNG file, chunk by chunk."""
    if image.fp is None:
        return
    # An opened image stands behind the length and the name of the first chunk of pixels.
    place = image.fp.tell()
    image.fp.seek(-8, os.SEEK_CUR)
    while len(start := image.fp.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"eXIf":
            image.info["exif"] = b"Exif\0\0" + image.fp.read(length)
            break
        image.fp.seek(length + 4, os.SEEK_CUR)
    image.fp.seek(place)


def _is_grey(image: ImageFile.ImageFile) -> bool:
    if image.mode in ("P", "PA") and image.palette is not None:
        # Asked itself for its colours, an image decodes its pixels.
        probe = Image.new("P", (1, 1))
        probe.putpalette(image.palette)
        red, green, blue = np.reshape(probe.getpalette("RGB") or [], (-1, 3)).T
        return bool((red == green).all() and (green == blue).all())
    return image.mode in GREY_MODES or (image.format == "PNG" and raw_mode(image) == "LA;16B")


def _has_frames(image: ImageFile.ImageFile) -> bool:
    if image.format == "PSD":
        # What it counts are the layers of one picture.
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except UNREADABLE:
        # GIF goes to the second frame to know, and it is the first that has to be whole.
        return True


def reason(error: BaseException) -> str:
    """Say why an image could not be read, in words for the user."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or in a format that Pillow does not read"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large for an image ({error})"
    return f"cannot be read as an image ({error})"


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[int], T], count: int, threads: int) -> list[T]:
    """Return ``[function(0), ..., function(count - 1)]``, computed in threads: Pillow decodes outside the GIL."""
    if threads == 1 or count < 2:
        return [function(number) for number in range(count)]
    size = max(1, min(64, -(-count // threads)))
    pieces = [range(begin, min(begin + size, count)) for begin in range(0, count, size)]
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda piece: [function(number) for number in piece], pieces)
        return [result for piece in done for result in piece]
