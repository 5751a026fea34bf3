import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from data.encoded import exif, pillow, png, tiff
from imbsam.data.decoding import Geometry, decode, in_threads, measured_header, read_header
from imbsam.data.depth import Measured, learned

RAMP = (np.arange(6 * 8 * 3).reshape(6, 8, 3) * 3 % 256).astype(np.uint8)


def whole(geometry, picture):
    header = read_header(picture)
    return decode(picture, geometry, geometry.centre(header.height, header.width), {})


def seen(picture, channels=3):
    """All pixels of an image by itself, ``(H, W)`` or ``(H, W, 3)``."""
    header = measured_header(picture)
    found = [Measured("it", header.depth, header.values)] if header.depth and header.values else []
    box = (0, 0, header.width, header.height)
    pixels = decode(picture, Geometry(channels, header.height, header.width, 1.0), box, learned(found))
    return pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)


def test_an_image_of_the_right_size_keeps_its_pixels():
    pixels = whole(Geometry(3, 6, 8, 1.0), pillow(RAMP))
    assert np.array_equal(pixels, RAMP.transpose(2, 0, 1))


def test_bytes_files_and_pixels_give_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(pillow(RAMP))
    geometry = Geometry(3, 4, 4, 1.0)
    found = [
        whole(geometry, picture) for picture in (pillow(RAMP), tmp_path / "a.png", torch.tensor(RAMP).permute(2, 0, 1))
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_the_largest_centred_box_of_the_aspect_is_taken():
    assert Geometry(3, 10, 10, 1.0).centre(40, 60) == (10, 0, 50, 40)
    assert Geometry(3, 20, 10, 1.0).centre(40, 60) == (20, 0, 40, 40)


def test_a_centre_crop_of_seven_eighths_is_resize_256_and_crop_224():
    picture = np.random.default_rng(0).integers(0, 256, (512, 640, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(picture).resize((64, 51)).resize((640, 512)))
    found = whole(Geometry(3, 224, 224, 0.875), pillow(smooth)).transpose(1, 2, 0).astype(int)
    by_pillow = Image.fromarray(smooth).resize((320, 256), Image.Resampling.BILINEAR).crop((48, 16, 272, 240))
    assert np.abs(found - np.asarray(by_pillow).astype(int)).max() <= 2


def test_a_padded_image_is_whole_on_the_colour_of_its_border():
    picture = np.full((20, 60, 3), (250, 240, 230), np.uint8)
    picture[5:15, 2:58] = (10, 20, 30)
    found = whole(Geometry(3, 30, 30, 1.0, "pad"), pillow(picture)).transpose(1, 2, 0)
    half = np.asarray(Image.fromarray(picture).resize((30, 10), Image.Resampling.BILINEAR))
    assert np.array_equal(found[10:20], half)
    assert (found[:10] == (250, 240, 230)).all()
    assert (found[20:] == (250, 240, 230)).all()


def test_a_grey_image_is_padded_too():
    picture = np.full((60, 6), 200, np.uint8)
    picture[30] = 0
    found = whole(Geometry(1, 16, 16, 1.0, "pad"), pillow(picture))
    assert found.shape == (1, 16, 16)
    assert (found[0, :, :7] == 200).all()
    assert found[0, :, 7:9].min() < 200


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_an_image_of_the_same_aspect_is_resized_however_it_is_fitted(fit):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = whole(Geometry(3, 21, 28, 1.0, fit), pillow(picture)).transpose(1, 2, 0)
    assert np.array_equal(found, np.asarray(Image.fromarray(picture).resize((28, 21), Image.Resampling.BILINEAR)))


@settings(max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_a_padded_box_holds_the_whole_image_and_has_the_aspect(height, width):
    left, top, right, bottom = Geometry(3, 31, 57, 1.0, "pad").centre(height, width)
    assert left <= 0
    assert top <= 0
    assert right >= width
    assert bottom >= height
    assert (right - left) / (bottom - top) == pytest.approx(57 / 31)
    decoded = decode(
        torch.zeros(3, height, width, dtype=torch.uint8),
        Geometry(3, 31, 57, 1.0, "pad"),
        (left, top, right, bottom),
        {},
    )
    assert decoded.shape == (3, 31, 57)


@pytest.mark.parametrize("height", range(1, 40))
def test_a_box_never_leaves_the_image(height):
    for width in (3, 7, 97, 333):
        left, top, right, bottom = Geometry(3, 31, 57, 1.0).centre(height, width)
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


def test_grey_becomes_three_equal_channels_where_the_others_are_coloured():
    pixels = whole(Geometry(3, 6, 8, 1.0), pillow(RAMP[:, :, 0]))
    assert np.array_equal(pixels[0], RAMP[:, :, 0])
    assert np.array_equal(pixels[0], pixels[2])


def test_results_of_threads_come_in_order():
    assert in_threads(lambda number: number**2, 300, threads=4) == [number**2 for number in range(300)]


QUADRANTS = np.zeros((48, 64, 3), np.uint8)
QUADRANTS[:24, :32, 0] = QUADRANTS[:24, 32:, 1] = QUADRANTS[24:, :32, 2] = 255
"""Red, green, blue, black."""


def upright(orientation, pixels=QUADRANTS):
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP", "MPO", "AVIF"])
def test_an_image_is_upright_as_viewers_show_it(file_format, orientation):
    if file_format not in Image.SAVE:
        pytest.skip("this Pillow writes none")
    options = {"save_all": True, "append_images": [Image.fromarray(QUADRANTS)]} if file_format == "MPO" else {}
    found = seen(pillow(QUADRANTS, file_format, exif=exif(orientation), **options))
    wanted = upright(orientation)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 500])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    assert np.array_equal(seen(pillow(QUADRANTS, exif=exif(orientation))), QUADRANTS)


def test_damaged_exif_turns_nothing():
    assert np.array_equal(seen(png(QUADRANTS, before=[(b"eXIf", b"damaged")])), QUADRANTS)


@pytest.mark.parametrize("pixels", [QUADRANTS, QUADRANTS.astype(np.uint16) * 257])
def test_exif_behind_the_pixels_counts(pixels):
    raw = exif(6).tobytes().removeprefix(b"Exif\0\0")
    picture = png(pixels, after=[(b"tEXt", b"Title\0a"), (b"eXIf", raw)])
    assert np.array_equal(seen(picture), upright(6))


def test_a_header_costs_no_pixels(monkeypatch):
    def decoded(image):
        raise AssertionError("decoded")

    deep = (np.arange(48).reshape(6, 8) * 1000).astype(np.uint16)
    palette = Image.fromarray(RAMP).quantize(8)
    pictures = [pillow(RAMP, name, exif=exif(6)) for name in ("JPEG", "PNG", "WEBP", "TIFF")]
    pictures += [pillow(deep), pillow(palette), pillow(palette, "GIF"), tiff(deep), png(RAMP)]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    assert [read_header(picture).width for picture in pictures[:4]] == [6] * 4
    assert [read_header(picture).width for picture in pictures[4:]] == [8] * 5


HOLE = np.full((6, 8), 255, np.uint8)
HOLE[2] = 0


def over_white(pixels):
    pixels = pixels.copy()
    pixels[2] = 255
    return pixels


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_what_is_transparent_is_white(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    picture = pillow(np.dstack([RAMP, HOLE]), file_format, **options)
    assert read_header(picture).transparent
    assert np.array_equal(seen(picture), over_white(RAMP))


@pytest.mark.parametrize("associated", [1, 2])
@pytest.mark.parametrize(("pixels", "colours"), [(RAMP, "RGB"), (RAMP[:, :, 0], "")])
def test_alpha_of_either_kind_is_laid_over_white(pixels, colours, associated):
    picture = tiff(np.dstack([pixels, HOLE]), colours=colours, extra=associated)
    try:
        header = read_header(picture)
    except UnidentifiedImageError:
        pytest.skip("this Pillow reads none")
    assert header.grey == (pixels.ndim == 2)
    assert np.array_equal(seen(picture, 1 if header.grey else 3), over_white(pixels))


def test_half_transparent_black_is_grey():
    assert seen(pillow(np.full((1, 1, 4), [0, 0, 0, 127], np.uint8))).tolist() == [[[128, 128, 128]]]


def four_colours(*colours):
    image = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4) % 4)
    image.putpalette([value for colour in colours for value in colour])
    return image


GREYS = [(0, 0, 0), (80, 80, 80), (160, 160, 160), (250, 250, 250)]


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_of_greys_is_grey(file_format):
    picture = pillow(four_colours(*GREYS), file_format)
    assert read_header(picture).grey
    assert seen(picture, 1).tolist() == [[0, 80, 160, 250]] * 2
    assert not read_header(pillow(four_colours((0, 0, 9), *GREYS[1:]), file_format)).grey


@pytest.mark.parametrize(
    ("file_format", "transparency", "wanted"),
    [
        ("PNG", 1, [0, 255, 160, 250]),
        ("GIF", 1, [0, 255, 160, 250]),
        ("PNG", bytes([255, 255, 0, 0]), [0, 80, 255, 255]),
    ],
)
def test_a_transparent_colour_of_a_palette_is_white(file_format, transparency, wanted):
    picture = pillow(four_colours(*GREYS), file_format, transparency=transparency)
    assert read_header(picture).transparent
    assert seen(picture, 1).tolist() == [wanted] * 2


def test_a_transparent_colour_without_a_palette_is_white():
    grey = np.array([[0, 5, 9]], np.uint8)
    assert seen(pillow(grey, transparency=5), 1).tolist() == [[0, 255, 9]]
    colour = np.dstack([grey, grey, grey])
    assert seen(pillow(colour, transparency=(5, 5, 5)))[..., 0].tolist() == [[0, 255, 9]]
    assert seen(pillow(grey > 0, transparency=0), 1).tolist() == [[255, 255, 255]]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_one_bit_is_black_and_white(file_format):
    bits = np.arange(48).reshape(6, 8) % 3 == 0
    assert seen(pillow(bits, file_format), 1).tolist() == (bits * 255).tolist()


TWO_COLOURS = np.zeros((16, 16, 3), np.uint8)
TWO_COLOURS[:, :8], TWO_COLOURS[:, 8:] = (200, 40, 40), (60, 150, 180)


def in_mode(mode):
    image = Image.fromarray(TWO_COLOURS)
    if mode != "LAB":
        return image.convert(mode)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("LAB", "TIFF")]
)
def test_other_colours_become_the_same_red_green_and_blue(mode, file_format):
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    picture = pillow(in_mode(mode), file_format, **options)
    assert np.abs(seen(picture).astype(int) - TWO_COLOURS).max() <= 12
    grey = np.asarray(Image.fromarray(TWO_COLOURS).convert("L")).astype(int)
    assert np.abs(seen(picture, 1) - grey).max() <= 12


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_the_first_of_several_frames_is_used_and_known_of(file_format):
    if file_format not in Image.SAVE:
        pytest.skip("this Pillow writes none")
    several = {"save_all": True, "append_images": [Image.fromarray(255 - TWO_COLOURS)]}
    picture = pillow(TWO_COLOURS, file_format, **several)
    assert read_header(picture).frames
    assert np.abs(seen(picture).astype(int) - TWO_COLOURS).mean() < 8
    assert not read_header(pillow(TWO_COLOURS, "JPEG" if file_format == "MPO" else file_format)).frames


def test_a_damaged_second_frame_leaves_the_first():
    picture = pillow(TWO_COLOURS, "GIF", save_all=True, append_images=[Image.fromarray(255 - TWO_COLOURS)])
    second = picture.rindex(b"\x21\xf9")
    damaged = picture[:second] + b"\x21\xf9\1\0\0"
    assert read_header(damaged).width == 16
    assert np.array_equal(seen(damaged), seen(picture))


@st.composite
def drawn_images(draw):
    """An array of a mode, as PNG or TIFF of an orientation, and the 8-bit pixels that it is to become."""
    mode = draw(st.sampled_from(["1", "L", "RGB", "LA", "RGBA", "12 bits", "16 bits", "colour 12", "float", "signed"]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    orientation = draw(st.integers(1, 8))
    noise = np.random.default_rng(draw(st.integers(0, 99)))
    channels = {"RGB": 3, "LA": 2, "RGBA": 4, "colour 12": 3}.get(mode)
    shape = (height, width) if channels is None else (height, width, channels)
    share = noise.random(shape)
    share.flat[0], share.flat[-1] = 1, 0 if share.size > 1 else 1
    if mode == "1":
        values = share > 0.5
    elif mode in ("12 bits", "16 bits", "colour 12"):
        values = np.rint(share * (65535 if mode == "16 bits" else 4095)).astype(np.uint16)
    elif mode == "float":
        values = share.astype(np.float32)
    elif mode == "signed":
        values = np.rint(share * 4000 - 1000).astype(np.int32)
    else:
        values = np.rint(share * 255).astype(np.uint8)
    wanted = share * 255
    if mode == "1":
        wanted = values * 255.0
    elif mode in ("LA", "RGBA"):
        alpha = values[..., -1:] / 255
        wanted = values[..., :-1] * alpha + 255 * (1 - alpha)
    if mode == "signed" and share.size == 1:
        # Of 3000 alone it is not known that others are below 0.
        wanted = np.full(shape, 3000 / 4095 * 255)
    return mode, values, orientation, wanted.squeeze(-1) if mode == "LA" else wanted


@given(drawn_images())
@settings(max_examples=150)
def test_any_mode_and_orientation_comes_out_as_seen(drawn):
    mode, values, orientation, wanted = drawn
    raw = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    if mode in ("float", "signed"):
        picture = pillow(values, "TIFF", exif=exif(orientation))
    elif mode == "1":
        picture = pillow(values, exif=exif(orientation))
    else:
        picture = png(values, before=[(b"eXIf", raw)])
    header = read_header(picture)
    wanted = upright(orientation, np.rint(wanted).astype(np.uint8))
    assert (header.height, header.width) == wanted.shape[:2]
    assert header.grey == (wanted.ndim == 2)
    assert np.abs(seen(picture, 1 if wanted.ndim == 2 else 3).astype(int) - wanted).max() <= 1
