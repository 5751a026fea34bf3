import pytest
import torch

from imbsam.sharpness import filter_normalised, random_direction


def test_each_filter_has_the_length_of_the_weights_filter_and_vectors_stay(case):
    surface = case.surface()
    direction = surface.shaped(random_direction(surface, 3))
    for name, weights in case.model.named_parameters():
        if weights.ndim == 1:
            assert not direction[name].any()
            continue
        for own, filter in zip(direction[name], weights, strict=True):
            assert float(own.norm()) == pytest.approx(float(filter.detach().double().norm()))


def test_the_angle_within_a_filter_is_kept(case):
    surface = case.surface()
    drawn = torch.randn_like(surface.weights)
    before = surface.shaped(drawn)["inner.0.weight"]
    after = surface.shaped(filter_normalised(surface, drawn))["inner.0.weight"]
    torch.testing.assert_close(torch.cosine_similarity(before, after), torch.ones(5, dtype=torch.float64))


def test_a_convolution_has_a_filter_for_each_output_channel():
    from torch import nn

    from imbsam.sharpness import LossSurface, Rows

    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten())
    rows = Rows.draw(torch.randn(3, 2, 2, 2), torch.arange(3))
    surface = LossSurface(model, nn.CrossEntropyLoss(reduction="none"), rows)
    direction = surface.shaped(random_direction(surface))["0.weight"]
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), model[0].weight.detach().flatten(1).norm(dim=1))


def test_the_same_seed_gives_the_same_bits(case):
    surface = case.surface()
    assert torch.equal(random_direction(surface, 1), random_direction(surface, 1))
    assert not torch.equal(random_direction(surface, 1), random_direction(surface, 2))


def test_a_filter_of_zeros_does_not_move(case):
    case.model.inner[3].weight.data[1] = 0
    surface = case.surface()
    assert not surface.shaped(random_direction(surface))["inner.3.weight"][1].any()
