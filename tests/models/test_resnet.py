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
    [
        *[("resnet20", 20), ("resnet32", 32), ("resnet44", 44), ("resnet56", 56)],
        *[("resnet18", 18), ("resnet34", 34), ("resnet50", 50)],
    ],
)
def test_the_name_counts_the_weighted_layers(name, depth):
    model = models.build(name, RGB, num_classes=10)
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len([m for n, m in layers if "shortcut" not in n]) == depth


def bottlenecks_by_hand(blocks, widths, classes):
    """As above, for blocks of a 1 x 1, a 3 x 3 and a 1 x 1 convolution behind a 7 x 7 stem."""
    before = widths[0] // 4
    total = 49 * 3 * before + 2 * before
    for number, width in zip(blocks, widths, strict=True):
        inner = width // 4
        for _ in range(number):
            total += before * inner + 9 * inner * inner + inner * width + 4 * inner + 2 * width
            if before != width:
                total += before * width + 2 * width
            before = width
    return total + before * classes + classes


def test_resnet50_has_the_published_number_of_parameters():
    assert bottlenecks_by_hand([3, 4, 6, 3], [256, 512, 1024, 2048], 1000) == 25_557_032
    assert parameters(models.build("resnet50", RGB, num_classes=1000)) == 25_557_032


def test_resnet50_halves_a_photograph_five_times():
    model = models.build("resnet50", RGB, num_classes=10, width=0.125)
    sizes = {}
    model.stem.register_forward_hook(lambda _, __, output: sizes.update(stem=tuple(output.shape[1:])))
    for number in (0, 3, 7, 13):
        model.blocks[number].register_forward_hook(
            lambda _, __, output, number=number: sizes.update({number: tuple(output.shape[1:])})
        )
    assert model(torch.randn(2, 3, 224, 224)).shape == (2, 10)
    expected = {"stem": (8, 112, 112), 0: (32, 56, 56), 3: (64, 28, 28), 7: (128, 14, 14), 13: (256, 7, 7)}
    assert sizes == expected


def test_a_bottleneck_is_its_formula():
    block = models.build("resnet50", RGB, num_classes=3, width=0.125).double().eval().blocks[3]
    maps = torch.randn(2, 32, 6, 6, dtype=torch.double)

    def normalised(x, norm):
        shape = (1, -1, 1, 1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (x - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)

    x = normalised(torch.einsum("oi,bihw->bohw", block.conv1.weight[:, :, 0, 0], maps), block.norm1).clamp(min=0)
    x = normalised(nn.functional.conv2d(x, block.conv2.weight, stride=2, padding=1), block.norm2).clamp(min=0)
    x = normalised(torch.einsum("oi,bihw->bohw", block.conv3.weight[:, :, 0, 0], x), block.norm3)
    convolution, norm = block.shortcut
    around = torch.einsum("oi,bihw->bohw", convolution.weight[:, :, 0, 0], maps[:, :, ::2, ::2])
    assert torch.allclose(block(maps), (x + normalised(around, norm)).clamp(min=0), atol=1e-12)


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
