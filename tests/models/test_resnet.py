import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.inputs import ImageSpec

RGB = ImageSpec(3, 32, 32, (0.5,) * 3, (0.5,) * 3)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def by_hand(blocks, widths, classes, *, projection):
    """Convolutions without bias, two numbers a channel in each normalisation, a linear classifier."""
    total = 9 * 3 * widths[0] + 2 * widths[0]
    before = widths[0]
    for number, width in zip(blocks, widths, strict=True):
        for _ in range(number):
            total += 9 * before * width + 2 * width + 9 * width * width + 2 * width
            if projection and before != width:
                total += before * width + 2 * width
            before = width
    return total + before * classes + classes


@pytest.mark.parametrize(
    ("name", "blocks", "expected"),
    [("resnet20", 3, 269_722), ("resnet32", 5, 464_154), ("resnet44", 7, 658_586), ("resnet56", 9, 853_018)],
)
def test_cifar_resnets_have_the_published_number_of_parameters(name, blocks, expected):
    assert by_hand([blocks] * 3, [16, 32, 64], 10, projection=False) == expected
    assert parameters(models.build(name, RGB, num_classes=10)) == expected


@pytest.mark.parametrize(
    ("name", "blocks", "expected"),
    [("resnet18", [2, 2, 2, 2], 11_220_132), ("resnet34", [3, 4, 6, 3], 21_328_292)],
)
def test_wide_resnets_have_projections_and_a_small_stem(name, blocks, expected):
    assert by_hand(blocks, [64, 128, 256, 512], 100, projection=True) == expected
    assert parameters(models.build(name, RGB, num_classes=100)) == expected


@pytest.mark.parametrize(
    ("name", "depth"),
    [("resnet20", 20), ("resnet32", 32), ("resnet44", 44), ("resnet56", 56), ("resnet18", 18), ("resnet34", 34)],
)
def test_the_name_counts_the_weighted_layers(name, depth):
    model = models.build(name, RGB, num_classes=10)
    weighted = [m for m in model.modules() if isinstance(m, nn.Linear)]
    weighted += [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(weighted) == depth


def test_stages_see_the_image_at_full_half_and_quarter_resolution():
    model = models.build("resnet20", RGB, num_classes=10)
    sizes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 32, 32).repeat(2, 1, 1, 1))
    assert sizes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_the_parameter_free_shortcut_keeps_the_pixels_and_pads_channels_on_both_sides():
    shortcut = models.build("resnet20", RGB, num_classes=10).blocks[3].shortcut
    maps = torch.randn(2, 16, 8, 8)
    padded = shortcut(maps)
    assert torch.equal(padded[:, 8:24], maps[:, :, ::2, ::2])
    assert torch.equal(padded[:, :8], torch.zeros(2, 8, 4, 4))
    assert torch.equal(padded[:, 24:], torch.zeros(2, 8, 4, 4))
    assert not list(shortcut.parameters())


@pytest.mark.parametrize("width", [0.1, 0.5, 1.25, 2.0])
def test_width_multiplies_the_channels(width):
    model = models.build("resnet20", RGB, num_classes=10, width=width)
    stages = [max(1, round(width * stage)) for stage in (16, 32, 64)]
    assert parameters(model) == by_hand([3] * 3, stages, 10, projection=False)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("width", "groups"), [(1.0, {16: 8, 32: 8, 64: 8}), (0.75, {12: 4, 24: 8, 48: 8}), (0.1, {2: 2, 3: 1, 6: 2})]
)
def test_group_norm_has_8_groups_where_8_divides_and_fewer_elsewhere(width, groups):
    model = models.build("resnet20", RGB, num_classes=10, width=width, norm="group")
    assert {m.num_channels: m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)} == groups
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_rows_do_not_see_each_other_under_group_norm_but_do_under_batch_norm():
    images = torch.randn(6, 3, 16, 16, dtype=torch.double)
    for norm, same in [("group", True), ("batch", False)]:
        model = models.build("resnet20", RGB, num_classes=10, norm=norm).double()
        assert torch.allclose(model(images)[:2], model(images[:2]), atol=1e-12) is same


def test_activations_keep_their_size_through_the_depth_at_the_start():
    torch.manual_seed(0)
    model = models.build("resnet56", RGB, num_classes=10)
    logits = model(torch.randn(8, 3, 32, 32))
    assert 0.1 < float(logits.detach().std()) < 10
