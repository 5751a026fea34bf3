import io

import numpy as np
import pytest
import torch
from PIL import Image

from imbsam.data.decoding import Geometry, decode, in_threads, read_header

RAMP = (np.arange(6 * 8 * 3).reshape(6, 8, 3) * 3 % 256).astype(np.uint8)


def encoded(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


def whole(geometry, picture):
    header = read_header(picture)
    return decode(picture, geometry, geometry.centre(header.height, header.width), {})


def test_an_image_of_the_right_size_keeps_its_pixels():
    pixels = whole(Geometry(3, 6, 8, 1.0), encoded(RAMP))
    assert np.array_equal(pixels, RAMP.transpose(2, 0, 1))


def test_bytes_files_and_pixels_give_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(RAMP))
    geometry = Geometry(3, 4, 4, 1.0)
    found = [
        whole(geometry, picture) for picture in (encoded(RAMP), tmp_path / "a.png", torch.tensor(RAMP).permute(2, 0, 1))
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_the_largest_centred_box_of_the_aspect_is_taken():
    assert Geometry(3, 10, 10, 1.0).centre(40, 60) == (10, 0, 50, 40)
    assert Geometry(3, 20, 10, 1.0).centre(40, 60) == (20, 0, 40, 40)


def test_a_centre_crop_of_seven_eighths_is_resize_256_and_crop_224():
    picture = np.random.default_rng(0).integers(0, 256, (512, 640, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(picture).resize((64, 51)).resize((640, 512)))
    found = whole(Geometry(3, 224, 224, 0.875), encoded(smooth)).transpose(1, 2, 0).astype(int)
    by_pillow = Image.fromarray(smooth).resize((320, 256), Image.Resampling.BILINEAR).crop((48, 16, 272, 240))
    assert np.abs(found - np.asarray(by_pillow).astype(int)).max() <= 2


@pytest.mark.parametrize("height", range(1, 40))
def test_a_box_never_leaves_the_image(height):
    for width in (3, 7, 97, 333):
        left, top, right, bottom = Geometry(3, 31, 57, 1.0).centre(height, width)
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


def test_sixteen_bits_are_scaled_to_eight_and_count_as_grey():
    deep = encoded(np.array([[0, 256, 65535]], np.uint16))
    assert read_header(deep).grey
    assert whole(Geometry(1, 1, 3, 1.0), deep).tolist() == [[[0, 1, 255]]]


def test_grey_becomes_three_equal_channels_where_the_others_are_coloured():
    pixels = whole(Geometry(3, 6, 8, 1.0), encoded(RAMP[:, :, 0]))
    assert np.array_equal(pixels[0], RAMP[:, :, 0])
    assert np.array_equal(pixels[0], pixels[2])


def test_results_of_threads_come_in_order():
    assert in_threads(lambda number: number**2, 300, threads=4) == [number**2 for number in range(300)]
