import pytest
import torch

from imbsam.data.decoding import Header
from imbsam.data.image_notes import constant_note, contrast_note, header_notes


def header(**said):
    return Header(4, 4, True, **said)


def test_ordinary_images_are_no_news():
    assert header_notes([("a", header())], {}) == []


def test_frames_are_named_and_transparent_images_counted():
    images = [("a", header(frames=True)), ("b", header()), ("c", header(frames=True, transparent=True))]
    frames, transparent = header_notes(images, {})
    assert "2 images have several pages or frames" in frames
    assert "a, c" in frames
    assert "1 image has an alpha channel" in transparent


def test_the_range_and_what_lies_outside_are_told():
    images = [(name, header(depth="integer", values=values)) for name, values in (("a", (0, 9)), ("b", (-1, 3)))]
    scale, outside = header_notes([*images, ("c", header())], {"integer": (0.0, 9.0)})
    assert "2 of 3 images hold integer values: 0 to 9 become 0 to 255, the others by ranges of their own" in scale
    assert "1 image has integer values outside 0 to 9" in outside
    assert outside.endswith("b.")


def test_images_of_less_depth_than_those_of_training_are_told():
    (note,) = header_notes([("a", header())], {"integer": (0.0, 9.0)})
    assert "at most 8 bits a value, and training images held integer values" in note


def test_images_of_one_colour_are_named():
    values = torch.randint(0, 256, (5000, 3, 2, 2), dtype=torch.uint8)
    values[:, 0, 0, 0], values[:, 0, 0, 1] = 1, 2
    assert constant_note(values, [str(number) for number in range(5000)]) == []
    values[17] = 9
    values[4999] = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    (note,) = constant_note(values, [str(number) for number in range(5000)])
    assert note == "2 images are of one colour alone: 17, 4999."


def test_an_image_of_one_pixel_is_not_constant():
    assert constant_note(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), ["a", "b", "c"]) == []
    assert constant_note(torch.zeros(0, 1, 2, 2, dtype=torch.uint8), []) == []


@pytest.mark.parametrize(("low", "high", "told"), [(0, 15, True), (100, 110, True), (0, 16, False), (0, 255, False)])
def test_a_sixteenth_of_the_values_is_told(low, high, told):
    levels = torch.zeros(256, dtype=torch.float64)
    levels[low : high + 1] = 1000
    assert bool(contrast_note(levels)) == told


def test_a_hot_pixel_does_not_hide_that_all_else_is_dark():
    levels = torch.zeros(256, dtype=torch.float64)
    levels[:10], levels[255] = 10000, 1
    assert "0 to 9" in contrast_note(levels)[0]
