from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from imbsam.data import evaluation_transform, training_transform
from imbsam.data.seeding import generator
from imbsam.data.transforms import ImageNetAugmentation, PaddedCrop
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, TableSpec

SPEC = ImageSpec(3, 16, 24, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
PLAIN = ImageSpec(1, 8, 8, (0.0,), (1 / 255,))
"""Leaves pixel values as they are, 0..255."""


def noise(count=6, channels=3, height=16, width=24, seed=0):
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator(seed))


def test_evaluation_normalises_each_channel():
    images = noise()
    inputs = evaluation_transform(SPEC)(images, None)
    for channel in range(3):
        written_out = (images[:, channel].double() / 255 - SPEC.mean[channel]) / SPEC.std[channel]
        torch.testing.assert_close(inputs[:, channel].double(), written_out, rtol=0, atol=1e-6)
    assert inputs.dtype == torch.float32


@pytest.mark.parametrize("augment", ["none", "crop", "cifar", "imagenet", "trivial", "randaugment"])
def test_the_raw_images_are_not_changed(augment):
    images = noise()
    before = images.clone()
    training_transform(SPEC, augment)(images, generator(0))
    assert torch.equal(images, before)


@pytest.mark.parametrize("augment", ["crop", "cifar", "imagenet", "trivial", "randaugment"])
def test_the_generator_decides_the_augmentation(augment):
    transform = training_transform(SPEC, augment)
    first, again, other = (transform(noise(), generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (6, 3, 16, 24)


@pytest.mark.parametrize("augment", ["cifar", "crop"])
def test_a_small_image_becomes_a_shifted_window_of_the_padded_image_or_its_mirror_image(augment):
    images = noise(count=64, channels=1, height=8, width=8)
    inputs = training_transform(PLAIN, augment)(images, generator(0)).round().byte()
    mirrored, shifts = 0, set()
    for image, found in zip(images[:, 0].numpy(), inputs[:, 0].numpy(), strict=True):
        border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
        colour = np.sort(border)[(len(border) - 1) // 2] if augment == "crop" else 0
        padded = np.full((10, 10), colour, np.uint8)
        padded[1:9, 1:9] = image
        hits = [
            (top, left, flip)
            for top in range(3)
            for left in range(3)
            for flip in (False, True)
            if np.array_equal(found, padded[top : top + 8, left : left + 8][:, :: -1 if flip else 1])
        ]
        assert len(hits) == 1
        shifts.add(hits[0][:2])
        mirrored += hits[0][2]
    assert len(shifts) == 9
    assert 16 < mirrored < 48


def test_imagenet_windows_lie_inside_and_keep_area_and_aspect_in_range():
    sizes = torch.tensor([[120, 90], [64, 200], [500, 333]]).repeat(300, 1)
    top, left, tall, wide = ImageNetAugmentation(SPEC).windows(sizes, generator(0)).unbind(1)
    height, width = sizes.unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (top + tall <= height) & (left + wide <= width)).all())
    area, aspect = (tall * wide) / (height * width), wide / tall
    assert 0.07 < float(area.min()) < 0.12
    assert float(area.max()) > 0.9
    assert 0.7 < float(aspect.min()) < 0.8
    assert 1.25 < float(aspect.max()) < 1.4


def test_an_image_too_narrow_for_any_window_gives_its_centre():
    sizes = torch.tensor([[10, 400], [400, 10]])
    windows = ImageNetAugmentation(SPEC, area=(1.0, 1.0)).windows(sizes, generator(0))
    assert windows.tolist() == [[0, 193, 10, 13], [193, 0, 13, 10]]


def test_imagenet_without_jitter_is_a_resized_window_as_pillow_makes_it():
    images = noise(count=1, height=40, width=40)
    augmentation = ImageNetAugmentation(ImageSpec(3, 16, 16, (0.0,) * 3, (1 / 255,) * 3), jitter=0.0)
    top, left, tall, wide = augmentation.windows(torch.tensor([[40, 40]]), generator(5))[0].tolist()
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    window = picture.crop((left, top, left + wide, top + tall))
    by_pillow = np.asarray(window.resize((16, 16), Image.Resampling.BILINEAR))
    found = augmentation(images, generator(5))[0].permute(1, 2, 0).numpy()
    differences = [np.abs(found[:, :: 1 - 2 * flip] - by_pillow.astype(float)).max() for flip in (0, 1)]
    assert min(differences) < 2


def test_colour_jitter_keeps_a_grey_image_grey_and_pixels_in_range():
    grey = torch.full((40, 3, 16, 24), 120, dtype=torch.uint8)
    inputs = ImageNetAugmentation(ImageSpec(3, 16, 24, (0.0,) * 3, (1 / 255,) * 3))(grey, generator(0))
    torch.testing.assert_close(inputs[:, 0], inputs[:, 2], rtol=0, atol=1e-3)
    brightness = inputs[:, 0, 0, 0] / 120
    assert 0.59 < float(brightness.min()) < 0.75
    assert 1.25 < float(brightness.max()) < 1.41
    bright = ImageNetAugmentation(ImageSpec(3, 16, 24, (0.0,) * 3, (1 / 255,) * 3))(noise(40), generator(0))
    assert float(bright.min()) >= 0
    assert float(bright.max()) <= 255.01


def test_colour_jitter_follows_the_written_out_blends():
    augmentation = ImageNetAugmentation(ImageSpec(3, 4, 4, (0.0,) * 3, (1 / 255,) * 3))
    images = noise(count=20, height=4, width=4)
    found = augmentation.finish(images, generator(7))
    draw = generator(7)
    flips = (torch.rand(20, 1, 1, 1, generator=draw) < 0.5).flatten().tolist()
    factors = (0.6 + 0.8 * torch.rand(3, 20, 1, 1, 1, generator=draw).double()).reshape(3, 20).tolist()
    orders = torch.rand(3, 20, generator=draw).argsort(0).T.tolist()
    for number in range(20):
        pixels = images[number].double().numpy()
        pixels = pixels[:, :, ::-1] if flips[number] else pixels
        for step, kind in enumerate(orders[number]):
            grey = 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]
            base = {0: 0.0, 1: grey.mean(), 2: grey[None]}[kind]
            factor = factors[step][number]
            pixels = np.clip(factor * pixels + (1 - factor) * base, 0, 255)
        np.testing.assert_allclose(found[number].numpy(), pixels, atol=1e-2)


def test_table_rows_pass_unchanged():
    rows = torch.rand(5, 3)
    assert torch.equal(training_transform(TableSpec(3, ()), "none")(rows, generator(0)), rows)


@pytest.mark.parametrize(
    ("flip", "axes"), [("horizontal", [(), (1,)]), ("both", [(), (1,), (0,), (0, 1)]), ("none", [()])]
)
@pytest.mark.parametrize("augment", ["cifar", "imagenet", "trivial"])
def test_images_are_flipped_as_asked_for_and_no_other_way(augment, flip, axes):
    transform = training_transform(PLAIN, augment, flip)
    # Without what else they do: windows of the whole image, no jitter, no operation.
    if augment == "imagenet":
        transform = replace(transform, area=(1.0, 1.0), aspect=(1.0, 1.0), jitter=0.0)
    if augment == "trivial":
        transform = replace(transform, policy=lambda images, draws: images)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 2:5, 3] = image[0, 0, 2, 3:6] = 200
    image[0, 0, 3, 5] = 90
    found = transform(image.expand(400, 1, 8, 8), generator(0)).round().byte()[:, 0]
    seen = {}
    for axis in [(), (1,), (0,), (0, 1)]:
        mirrored = image[0, 0].flip(axis) if axis else image[0, 0]
        shifted = {mirrored.roll((y, x), (0, 1)).numpy().tobytes() for y in (-1, 0, 1) for x in (-1, 0, 1)}
        seen[axis] = sum(each.numpy().tobytes() in shifted for each in found)
    assert sum(seen.values()) == 400
    for axis, count in seen.items():
        assert count == 0 if axis not in axes else abs(count - 400 / len(axes)) < 50


def test_flips_that_do_not_exist_or_would_not_happen_are_refused():
    with pytest.raises(OptionError, match="flip must be one of horizontal, both, none; got 'vertical'"):
        training_transform(SPEC, "crop", "vertical")
    with pytest.raises(OptionError, match="flip='both' is for augmented images"):
        training_transform(SPEC, "none", "both")
    with pytest.raises(OptionError, match="flip='both' is for augmented images"):
        training_transform(TableSpec(3, ()), "none", "both")


def test_augmenting_a_table_is_refused():
    with pytest.raises(OptionError, match="table"):
        training_transform(TableSpec(3, ()), "cifar")


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(OptionError, match="mixup"):
        training_transform(SPEC, "mixup")


@pytest.mark.parametrize("augment", ["trivial", "randaugment"])
@pytest.mark.parametrize(("size", "base"), [(96, PaddedCrop), (97, ImageNetAugmentation)])
def test_a_policy_follows_the_crop_and_flip_that_fits_the_size(augment, size, base):
    spec = ImageSpec(3, size, size, (0.0,) * 3, (1.0,) * 3)
    transform, images = training_transform(spec, augment), noise(count=3, height=size, width=size)
    assert type(transform) is base
    draw = generator(0)
    before = base(spec, policy=lambda cropped, draws: cropped)(images, draw)
    expected = transform.policy((before * 255).round().byte(), draw)
    torch.testing.assert_close(transform(images, generator(0)) * 255, expected.float())


@pytest.mark.parametrize("augment", ["imagenet", "trivial", "randaugment"])
def test_colour_is_not_changed_in_images_of_other_channels(augment):
    with pytest.raises(OptionError, match=f"augment='{augment}' takes grey or RGB images, but these have 2 channels"):
        training_transform(ImageSpec(2, 8, 8, (0.0,) * 2, (1.0,) * 2), augment)
