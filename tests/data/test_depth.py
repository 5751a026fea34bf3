import numpy as np
import pytest
from PIL import Image

from data.encoded import pillow, png, tiff
from imbsam.data.depth import (
    Measured,
    deep_pixels,
    depth_of,
    eight_bits,
    from_json,
    learned,
    ranges_for,
    to_json,
)
from imbsam.data.formats import open_image
from imbsam.errors import DataError

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 65536, (5, 7), dtype=np.uint16)
COLOUR = DRAW.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
WITH_ALPHA = np.concatenate([COLOUR, np.full((5, 7, 1), 65535, np.uint16)], axis=-1)
SIGNED = DRAW.integers(-30000, 30000, (5, 7))
REAL = DRAW.random((5, 7), dtype=np.float32) * 80 - 3

KINDS = {
    "PNG": (png(GREY), "16-bit grey", GREY),
    "PNG with alpha": (png(np.stack([GREY, GREY], -1)), "16-bit grey", GREY),
    "TIFF": (tiff(GREY), "16-bit grey", GREY),
    "TIFF, most significant byte first": (tiff(GREY.astype(">u2")), "16-bit grey", GREY),
    "TIFF, compressed": (pillow(GREY, "TIFF", compression="tiff_lzw"), "16-bit grey", GREY),
    "TIFF, 0 is white": (tiff(GREY, white_is_zero=True), "16-bit grey", 65535 - GREY),
    "PGM": (pillow(GREY.astype(np.int32), "PPM"), "scaled 16-bit grey", GREY),
    "JPEG 2000": (pillow(GREY, "JPEG2000", irreversible=False), "scaled 16-bit grey", GREY),
    "PNG in colour": (png(COLOUR), "16-bit colour", COLOUR),
    "PNG in colour with alpha": (png(WITH_ALPHA), "16-bit colour", COLOUR),
    "TIFF in colour": (tiff(COLOUR, colours="RGB"), "16-bit colour", COLOUR),
    "TIFF in colour, most significant byte first": (tiff(COLOUR.astype(">u2"), colours="RGB"), "16-bit colour", COLOUR),
    "TIFF in colour with alpha": (tiff(WITH_ALPHA, colours="RGB", extra=2), "16-bit colour", COLOUR),
    "TIFF in colour with something else": (tiff(WITH_ALPHA, colours="RGB", extra=0), "16-bit colour", COLOUR),
    "8 bits with a sign": (tiff((SIGNED // 256).astype(np.int8)), "integer", SIGNED // 256),
    "16 bits with a sign": (tiff(SIGNED.astype(np.int16)), "integer", SIGNED),
    "32 bits with a sign": (tiff(SIGNED.astype(np.int32) * 999), "integer", SIGNED * 999),
    "32 bits": (tiff(GREY.astype(np.uint32) * 65537), "integer", GREY.astype(np.int64) * 65537),
    "floating-point": (tiff(REAL), "floating-point", REAL),
    "floating-point, 0 is white": (tiff(REAL, white_is_zero=True), "floating-point", -REAL),
    "PFM": (pillow(REAL, "PPM"), "floating-point", REAL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_is_lost(kind):
    file, depth, values = KINDS[kind]
    with open_image(file) as image:
        assert depth_of(image) == depth
    found = deep_pixels(file)
    assert np.array_equal(found.values.astype(np.float64), values.astype(np.float64))
    assert found.range == (values.min(), values.max())


@pytest.mark.parametrize(
    "file",
    [
        tiff(WITH_ALPHA, colours="CMYK"),
        tiff(WITH_ALPHA, colours="RGB", extra=1),
        tiff(COLOUR, colours="RGB", planar=2),
        pillow(COLOUR.astype(np.uint8), "SGI", bpc=2),
    ],
)
def test_what_pillow_cuts_to_8_bits_is_refused(file):
    with open_image(file) as image, pytest.raises(ValueError, match="16 bits a value in this layout"):
        depth_of(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        deep_pixels(tiff(np.array([[0.5, value]], np.float32)))


def test_transparent_values_do_not_count_and_become_white():
    file = png(np.array([[[10, 65535], [30, 65535], [999, 0]]], np.uint16))
    pixels = deep_pixels(file)
    assert pixels.range == (10, 30)
    assert np.asarray(eight_bits(pixels, (10, 30))).tolist() == [[0, 255, 255]]


def test_a_transparent_colour_becomes_white():
    grey = np.array([[0, 30, 7]], np.uint16)
    colour = np.array([[[0, 0, 0], [30, 20, 10], [7, 7, 7]]], np.uint16)
    found = eight_bits(deep_pixels(png(grey, before=[(b"tRNS", b"\0\7")])), (0, 30))
    assert np.asarray(found).tolist() == [[0, 255, 255]]
    found = eight_bits(deep_pixels(png(colour, before=[(b"tRNS", b"\0\7\0\7\0\7")])), (0, 30))
    assert np.asarray(found).tolist() == [[[0, 0, 0], [255, 170, 85], [255, 255, 255]]]


def measured(depth, *ranges):
    return [Measured(f"image {number}", depth, values) for number, values in enumerate(ranges)]


@pytest.mark.parametrize(
    ("depth", "used", "scale"),
    [
        ("16-bit grey", [(0, 900), (40, 4095)], (0, 4095)),
        ("16-bit grey", [(3, 700), (100, 1000)], (0, 1023)),
        ("16-bit colour", [(0, 65535)], (0, 65535)),
        ("16-bit grey", [(28000, 30000), (29000, 32000)], (28000, 32000)),
        ("16-bit grey", [(0, 3)], (0, 3)),
        ("16-bit grey", [(0, 0)], (0, 1)),
        ("16-bit grey", [(4095, 4095)], (0, 4095)),
        ("integer", [(-1024, 50), (0, 3071)], (-1024, 3071)),
        ("floating-point", [(0.1, 0.5), (0.2, 0.9)], (0, 1)),
        ("floating-point", [(0.01, 0.02)], (0.01, 0.02)),
        ("floating-point", [(-1, 1)], (-1, 1)),
        ("floating-point", [(0, 80.5)], (0, 80.5)),
    ],
)
def test_the_scale_is_whole_bits_or_what_is_used(depth, used, scale):
    assert learned(measured(depth, *used)) == {depth: scale}


@pytest.mark.parametrize("depth", ["16-bit grey", "integer", "floating-point"])
@pytest.mark.parametrize("value", [0.0, 7.0, 1e30, -1e30])
def test_images_of_one_value_have_a_scale_too(depth, value):
    low, high = learned(measured(depth, (value, value)))[depth]
    assert low < high
    assert low <= value <= high


def test_each_depth_has_a_scale_of_its_own():
    found = measured("16-bit grey", (0, 4000)) + measured("floating-point", (0, 9))
    assert learned(found) == {"16-bit grey": (0, 4095), "floating-point": (0, 9)}


def test_a_range_of_training_holds_for_later_images():
    assert ranges_for(measured("16-bit grey", (0, 60000)), {"16-bit grey": (0, 4095)}) == {"16-bit grey": (0, 4095)}


def test_a_depth_that_training_had_not_is_all_of_16_bits_or_an_error():
    assert ranges_for(measured("16-bit colour", (0, 60000)), {}) == {"16-bit colour": (0, 65535)}
    for depth, values in (("16-bit grey", (0, 4095)), ("integer", (0, 65535)), ("floating-point", (0, 1))):
        with pytest.raises(DataError, match=rf"image 0: holds {depth} values .* no training image does"):
            ranges_for(measured(depth, values), {})


def test_ranges_survive_json():
    ranges = {"integer": (-1024.0, 3071.0), "floating-point": (0.0, 1.0)}
    assert from_json(to_json(ranges)) == ranges
    assert from_json(None) == {}


def test_values_outside_the_range_become_black_and_white():
    image = eight_bits(deep_pixels(tiff(np.array([[-5, 0, 5, 10, 99]], np.int32))), (0, 10))
    assert np.asarray(image).tolist() == [[0, 0, 128, 255, 255]]
    assert isinstance(image, Image.Image)
