"""Every operation against Pillow's, image by image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from imbsam.data import operations as ours
from imbsam.data.seeding import generator
from imbsam.inputs import ImageSpec

AFFINE = Image.Transform.AFFINE
PILLOW = {
    "identity": lambda image, a: image,
    "shear-x": lambda image, a: image.transform(image.size, AFFINE, (1, a, 0, 0, 1, 0)),
    "shear-y": lambda image, a: image.transform(image.size, AFFINE, (1, 0, 0, a, 1, 0)),
    "translate-x": lambda image, a: image.transform(image.size, AFFINE, (1, 0, int(a), 0, 1, 0)),
    "translate-y": lambda image, a: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, int(a))),
    "rotate": lambda image, a: image.rotate(a),
    "brightness": lambda image, a: ImageEnhance.Brightness(image).enhance(1 + a),
    "color": lambda image, a: ImageEnhance.Color(image).enhance(1 + a),
    "contrast": lambda image, a: ImageEnhance.Contrast(image).enhance(1 + a),
    "sharpness": lambda image, a: ImageEnhance.Sharpness(image).enhance(1 + a),
    "posterize": lambda image, a: ImageOps.posterize(image, 8 - round(a)),
    "solarize": lambda image, a: ImageOps.solarize(image, a),
    "autocontrast": lambda image, a: ImageOps.autocontrast(image),
    "equalize": lambda image, a: ImageOps.equalize(image),
}


def pictures(channels, height=24, width=40):
    """Noise, noise of few values, a slope, one value alone, and two."""
    draw = generator(channels)
    noise = torch.randint(256, (3, channels, height, width), generator=draw)
    noise[1] = noise[1] // 4 + 60
    noise[2] = noise[2] // 64 * 50
    slope = torch.arange(width).mul(3).expand(1, channels, height, width)
    flat = torch.full((1, channels, height, width), 77)
    two = 255 * (torch.rand(1, channels, height, width, generator=draw) < 0.1)
    return torch.cat([noise, slope, flat, two]).to(torch.uint8)


def pillow(name, image, amount):
    pixels = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    result = np.array(PILLOW[name](Image.fromarray(pixels), amount))
    return torch.from_numpy(result).view(*image.shape[1:], len(image)).permute(2, 0, 1)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_that_of_pillow(name, channels, wide):
    found = [each for each in ours.operations(ImageSpec(channels, 24, 40, (0,), (1,)), wide=wide) if each.name == name]
    if name == "color" and channels == 1:
        assert not found
        return
    (operation,) = found
    images = pictures(channels)
    for strength in range(0, 31, 3):
        amount = operation.low + strength / 30 * (operation.high - operation.low)
        for sign in (1, -1) if operation.signed else (1,):
            amounts = torch.full((len(images),), sign * amount, dtype=torch.float64)
            done = operation.apply(images, amounts)
            assert done.dtype == torch.uint8
            expected = torch.stack([pillow(name, image, sign * amount) for image in images])
            difference = (done.int() - expected.int()).abs()
            assert int(difference.max()) <= 1, (name, strength, sign)


@pytest.mark.parametrize("wide", [True, False])
def test_each_image_has_its_own_amount_whatever_stands_beside_it(wide):
    images = pictures(3)
    shares = torch.linspace(0, 1, len(images), dtype=torch.float64)
    for operation in ours.operations(ImageSpec(3, 24, 40, (0,), (1,)), wide=wide):
        amounts = operation.low + shares * (operation.high - operation.low)
        together = operation.apply(images, amounts)
        for row in range(len(images)):
            assert torch.equal(together[row], operation.apply(images[row : row + 1], amounts[row : row + 1])[0])


def test_the_strongest_amounts_are_those_of_the_papers():
    def strongest(wide, size):
        return {each.name: each.high for each in ours.operations(ImageSpec(3, size, size, (0,), (1,)), wide=wide)}

    wide, usual = strongest(True, 224), strongest(False, 331)
    assert (wide["shear-x"], wide["translate-y"], wide["rotate"], wide["posterize"]) == (0.99, 32, 135, 6)
    assert (usual["shear-x"], usual["translate-y"], usual["rotate"], usual["posterize"]) == (0.3, 150, 30, 4)
    assert strongest(True, 8)["translate-x"] == 8
    assert len(wide) == 14


def test_images_too_small_to_be_smoothed_stay():
    images = torch.arange(8, dtype=torch.uint8).view(1, 1, 2, 4)
    assert torch.equal(ours.sharpness(images, torch.tensor([0.9])), images)
