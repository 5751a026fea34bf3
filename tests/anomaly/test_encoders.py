from math import prod

import pytest
import torch
from torch import nn

from imbsam.anomaly.encoders import decoder, encoder
from imbsam.anomaly.networks import bias_free, draw_weights, mlp
from imbsam.data.seeding import generator
from imbsam.errors import OptionError


def layers(network, kind):
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def test_rows_of_a_table_meet_the_dense_layers_alone():
    assert [type(layer) for layer in encoder((7,), lambda columns: mlp([columns, 3]))] == [nn.Linear]
    assert decoder((7,), lambda columns: mlp([3, columns]))[0].out_features == 7


@pytest.mark.parametrize(
    ("shape", "channels", "features"),
    [
        ((1, 28, 28), [1, 16, 32], 32 * 7 * 7),
        ((3, 32, 32), [3, 32, 64, 128], 128 * 4 * 4),
        ((1, 8, 8), [1, 16, 32], 32 * 2 * 2),
        ((3, 224, 224), [3, 32, 64, 128, 128, 128], 128 * 7 * 7),
        ((1, 9, 13), [1, 16, 32], 32 * 3 * 4),
    ],
)
def test_convolutions_are_those_published_and_carried_on_to_other_sizes(shape, channels, features):
    network = encoder(shape, lambda columns: mlp([columns, 2]))
    found = layers(network, nn.Conv2d)
    assert [layer.in_channels for layer in found] + [found[-1].out_channels] == channels
    assert {(layer.kernel_size, layer.stride) for layer in found} == {((5, 5), (1, 1))}
    assert layers(network, nn.Linear)[0].in_features == features


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8), (3, 9, 13), (2, 1, 1), (1, 28, 28)])
def test_the_decoder_leads_back_to_rows_of_the_same_shape(shape):
    there = encoder(shape, lambda columns: mlp([columns, 3]))
    back = decoder(shape, lambda columns: mlp([3, columns]))
    for network in (there, back):
        draw_weights(network, generator(0))
    assert back(there(torch.rand(4, *shape, generator=generator(1)))).shape == (4, *shape)


def test_without_bias_there_is_none_and_batchnorm_has_neither_scale_nor_shift():
    network = encoder((1, 28, 28), lambda columns: bias_free([columns, 128, 64]), bias=False)
    assert all(layer.bias is None for layer in layers(network, nn.Conv2d | nn.Linear))
    norms = layers(network, nn.BatchNorm1d | nn.BatchNorm2d)
    assert [(norm.num_features, norm.eps, norm.affine) for norm in norms] == [(n, 1e-4, False) for n in (16, 32, 128)]


def test_weights_are_drawn_as_far_as_the_inputs_of_a_unit_allow():
    network = encoder((3, 32, 32), lambda columns: mlp([columns, 9]))
    draw_weights(network, generator(0))
    for layer in layers(network, nn.Conv2d | nn.Linear):
        bound = prod(layer.weight.shape[1:]) ** -0.5
        largest = max(float(parameter.detach().abs().max()) for parameter in layer.parameters())
        assert 0.95 * bound < largest <= bound


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), ()])
def test_a_shape_of_neither_a_row_nor_an_image_is_refused(shape):
    with pytest.raises(OptionError, match=r"rows have shape \(columns,\) or, of images, \(channels, height, width\)"):
        encoder(shape, lambda columns: mlp([columns, 2]))
