"""Images of more than 8 bits a value, and the range of values that becomes 0 to 255."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from PIL import Image, ImageFile

from imbsam.data.formats import open_image
from imbsam.errors import DataError

Depth = Literal["16-bit grey", "16-bit colour", "scaled 16-bit grey", "integer", "floating-point"]
"""Type of the values of an image with more than 8 bits; "scaled" if its format says which value is white (PGM, JPEG
2000)."""

Range = tuple[float, float]
Ranges = Mapping[Depth, Range]
"""Values of each depth that become 0 and 255."""

WHOLE_16_BITS: Range = (0.0, 65535.0)

FILLED = 0.25
"""Share of the range of a whole number of bits, or of 0 to 1, that the values must span to be scaled by it."""

_SAMPLE_FORMAT, _BITS, _PHOTOMETRIC = 339, 258, 262
_SIGNED, _WHITE_IS_ZERO = 2, 0
_COLOURS = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA") for order in "BLN")


@dataclass(frozen=True)
class DeepPixels:
    """Pixels with the values of their file.

    Args:
        values: Values, shape ``(H, W)`` or ``(H, W, 3)``.
        alpha: Opacity, uint8, shape ``(H, W)``; None where every pixel is opaque.
    """

    values: np.ndarray
    alpha: np.ndarray | None

    @property
    def range(self) -> Range:
        """Smallest and largest value of the pixels that are not fully transparent, else of all."""
        seen = self.values if self.alpha is None or not self.alpha.any() else self.values[self.alpha > 0]
        return float(seen.min()), float(seen.max())


@dataclass(frozen=True)
class Measured:
    """Depth of one image and the range of its values."""

    name: str
    depth: Depth
    range: Range


def depth_of(image: ImageFile.ImageFile) -> Depth | None:
    """Find out the depth of an opened image, without decoding it.

    Returns:
        The depth, or None for values of 8 bits or fewer.

    Raises:
        ValueError: If Pillow would drop bits for good.
    """
    if image.mode == "F":
        return "floating-point"
    if image.mode == "I" or image.mode.startswith("I;16"):
        if image.format in ("PPM", "JPEG2000"):
            return "scaled 16-bit grey"
        return "16-bit grey" if image.mode != "I" or image.format == "PNG" else "integer"
    if image.format not in ("PNG", "TIFF", "SGI"):
        return None
    raw = raw_mode(image)
    if raw == "LA;16B":
        return "16-bit grey"
    if image.format == "TIFF" and image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        return "integer"
    if raw in _COLOURS:
        return "16-bit colour"
    wide = image.format == "TIFF" and (_tag(image, _BITS) or 1) > 8
    if wide or ";16" in raw or (image.tile and image.tile[0].codec_name == "SGI16"):
        raise ValueError(
            f"16 bits a value in this layout, {image.format} {raw or image.mode}; save it with 8, or as PNG"
        )
    return None


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name for the layout of the values in an opened file, or ``""``."""
    args = image.tile[0].args if image.tile else None
    found = args if isinstance(args, str) else args[0] if args else ""
    return found if isinstance(found, str) else ""


def deep_pixels(file: Path | bytes) -> DeepPixels:
    """Decode an image that has a depth.

    Raises:
        ValueError: If values are not finite.
        Exception: Any exception that the decoder raises on a damaged file.
    """
    with open_image(file) as image:
        raw = raw_mode(image)
        if raw == "LA;16B":
            # Pillow keeps the upper bytes alone. Read as four channels of 8 bits, all bytes are there.
            _read_as(image, "RGBA")
            upper, lower, alpha, _ = np.moveaxis(np.asarray(image), -1, 0)
            return DeepPixels(upper * np.uint16(256) + lower, alpha)
        if raw not in _COLOURS:
            values = _grey_values(image)
            if not np.isfinite(values).all():
                raise ValueError("it holds NaN or infinite values; replace them")
            return DeepPixels(values, _opaque_but(values, image.info.get("transparency")))
        with open_image(file) as again:
            # The upper bytes are what Pillow reads; in the other byte order it reads the lower ones.
            big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
            _read_as(again, raw[:-1] + ("L" if big else "B"))
            both = np.asarray(image) * np.uint16(256) + np.asarray(again)
        if both.shape[-1] == 4:
            return DeepPixels(both[..., :3], (both[..., 3] >> 8).astype(np.uint8))
        return DeepPixels(both, _opaque_but(both, image.info.get("transparency")))


def learned(found: Iterable[Measured]) -> dict[Depth, Range]:
    """Learn the range of each depth from the training images.

    The range is that of the smallest whole number of bits that holds the values (0 to 4095 for 12 bits), and 0 to 1 for
    floating-point numbers. Where the values do not fit, or span less than a quarter of that range, it goes from the
    smallest to the largest value.
    """
    used: dict[Depth, Range] = {}
    for one in found:
        low, high = used.get(one.depth, one.range)
        used[one.depth] = min(low, one.range[0]), max(high, one.range[1])
    return {depth: _scale_of(depth, *values) for depth, values in used.items()}


def ranges_for(found: Sequence[Measured], trained: Ranges) -> dict[Depth, Range]:
    """Return the ranges for images other than those of training.

    Args:
        found: Images with more than 8 bits a value.
        trained: Ranges learned in training.

    Returns:
        The ranges of training; for a depth that training did not have, all 16 bits, if the images use them.

    Raises:
        DataError: If the range of a depth cannot be known.
    """
    ranges = dict(trained)
    own = learned(found)
    for one in found:
        if one.depth in ranges:
            continue
        if not one.depth.endswith(("grey", "colour")) or own[one.depth] != WHOLE_16_BITS:
            low, high = own[one.depth]
            raise DataError(
                f"{one.name}: holds {one.depth} values ({low:g} to {high:g}), and no training image does: "
                "so it is unknown which value is black and which is white. Save it in the format of the training "
                "images, or with 8 bits."
            )
        ranges[one.depth] = WHOLE_16_BITS
    return ranges


def to_json(ranges: Ranges) -> dict[str, list[float]]:
    """Return the ranges as plain JSON values."""
    return {depth: list(values) for depth, values in ranges.items()}


def from_json(stored: object) -> dict[Depth, Range]:
    """Restore the ranges from :func:`to_json`."""
    return {depth: (low, high) for depth, (low, high) in cast(Mapping[Depth, Sequence[float]], stored or {}).items()}


def eight_bits(pixels: DeepPixels, black_to_white: Range) -> Image.Image:
    """Scale values to 0 to 255; values outside the range become 0 or 255, and transparent pixels white."""
    if pixels.values.dtype.kind == "u" and pixels.values.itemsize == 2:
        # One look-up a pixel; an image of 64-bit numbers would be four times as large.
        image = Image.fromarray(_levels(np.arange(2**16), black_to_white)[pixels.values])
    else:
        image = Image.fromarray(_levels(pixels.values, black_to_white))
    if pixels.alpha is None:
        return image
    paper = Image.new(image.mode, image.size, "white")
    paper.paste(image, mask=Image.fromarray(pixels.alpha))
    return paper


def _levels(values: np.ndarray, black_to_white: Range) -> np.ndarray:
    low, high = black_to_white
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _scale_of(depth: Depth, low: float, high: float) -> Range:
    whole = 1.0 if depth == "floating-point" else 2.0 ** max(int(high), 1).bit_length() - 1
    fits, fills = low >= 0 and high <= whole, high - low >= FILLED * whole
    if fits and (fills or low == high):
        return 0.0, whole
    return low, high if high > low else low + max(1.0, abs(low))


def _grey_values(image: ImageFile.ImageFile) -> np.ndarray:
    values = np.asarray(image)
    if image.format != "TIFF":
        return values
    if values.dtype == np.uint8:
        values = values.view(np.int8)
    if values.dtype == np.int32 and _tag(image, _BITS) == 32 and _tag(image, _SAMPLE_FORMAT) != _SIGNED:
        values = values.view(np.uint32)
    if _tag(image, _PHOTOMETRIC) != _WHITE_IS_ZERO:
        return values
    return 65535 - values if values.dtype == np.uint16 else -values


def _opaque_but(values: np.ndarray, transparent: object) -> np.ndarray | None:
    if transparent is None:
        return None
    same = values == np.asarray(transparent)
    return np.where(same.all(-1) if values.ndim == 3 else same, 0, 255).astype(np.uint8)


def _read_as(image: ImageFile.ImageFile, raw: str) -> None:
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) or tile.args is None else (raw, *tile.args[1:]))
        for tile in image.tile
    ]


def _tag(image: ImageFile.ImageFile, number: int) -> int | None:
    """Return the largest value of a TIFF tag."""
    found = getattr(image, "tag_v2", {}).get(number)
    return max(found) if isinstance(found, tuple) else found
