import pytest
import torch
from torch import nn

from imbsam.models.lora import ALPHA, LoRAConv2d, LoRALinear, add_adapters

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (4, 6)),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), (4, 3, 6)),
    "convolution": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (4, 3, 8, 8)),
    "dilated convolution": (lambda: nn.Conv2d(3, 5, 3, padding=2, dilation=2, bias=False), (4, 3, 8, 8)),
}


def adapted(layer, rank):
    return (LoRALinear if isinstance(layer, nn.Linear) else LoRAConv2d)(layer, rank)


@pytest.mark.parametrize("name", LAYERS)
def test_an_adapter_starts_as_the_layer_it_wraps_bit_for_bit(name):
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape)
    before = layer(x)
    assert torch.equal(adapted(layer, 2)(x), before)


@pytest.mark.parametrize("name", LAYERS)
def test_the_output_is_that_of_the_added_low_rank_weight(name):
    make, shape = LAYERS[name]
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    found = adapted(layer, 2)
    nn.init.normal_(found.up.weight)
    up, down = found.up.weight.flatten(1), found.down.weight
    added = (ALPHA / 2) * torch.einsum("or,r...->o...", up, down)
    merged = make().double()
    merged.load_state_dict({**layer.state_dict(), "weight": layer.weight + added})
    torch.testing.assert_close(found(x), merged(x))
    torch.testing.assert_close(found.weight, merged.weight)
    assert (found(x) - layer(x)).abs().max() > 0.1


def test_only_the_low_rank_matrices_get_a_gradient():
    found = LoRALinear(nn.Linear(6, 5), 2)
    found(torch.randn(4, 6)).sum().backward()
    assert {name for name, p in found.named_parameters() if p.requires_grad} == {"down.weight", "up.weight"}
    assert found.base.weight.grad is None
    assert found.up.weight.grad is not None


def test_code_that_reads_the_weight_of_the_layer_gets_the_adapted_one():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    assert add_adapters(attention, 2, without="") == 1
    nn.init.normal_(attention.out_proj.up.weight)
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    out, _ = attention(x, x, x)
    plain = nn.MultiheadAttention(8, 2, batch_first=True).double()
    own = {name: value for name, value in attention.state_dict().items() if "out_proj" not in name}
    plain.load_state_dict(
        {**own, "out_proj.weight": attention.out_proj.weight, "out_proj.bias": attention.out_proj.bias}
    )
    torch.testing.assert_close(out, plain(x, x, x)[0])


def test_convolutions_beside_linear_layers_get_no_adapter():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 6), nn.Linear(6, 3))
    assert add_adapters(model, 8, without="3") == 1
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Flatten, LoRALinear, nn.Linear]


def test_grouped_convolutions_and_the_classifier_get_no_adapter():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 3))
    assert add_adapters(model, 8, without="3") == 1
    assert [type(layer) for layer in model] == [nn.Conv2d, LoRAConv2d, nn.Flatten, nn.Linear]
    assert model[1].down.out_channels == 4
