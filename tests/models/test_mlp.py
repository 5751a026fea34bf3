import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.inputs import ImageSpec, TableSpec
from imbsam.models.mlp import embedding_size


@pytest.mark.parametrize(("cardinality", "size"), [(1, 1), (2, 1), (3, 2), (10, 5), (99, 50), (100, 50), (5000, 50)])
def test_an_embedding_is_half_as_long_as_its_codes_and_50_at_most(cardinality, size):
    assert embedding_size(cardinality) == size


def test_numbers_stay_and_codes_become_their_embeddings():
    model = models.build("mlp", TableSpec(2, (3, 7)), num_classes=2)
    first, second = model.inputs.embeddings
    features = model.inputs(torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.5, 3.0, 0.0, 6.0]]))
    expected = [
        torch.cat([torch.tensor([0.5, -1.0]), first.weight[2], second.weight[0]]),
        torch.cat([torch.tensor([1.5, 3.0]), first.weight[0], second.weight[6]]),
    ]
    assert torch.equal(features, torch.stack(expected))


@pytest.mark.parametrize("spec", [TableSpec(5, ()), TableSpec(0, (4, 9)), TableSpec(1, (2,))])
def test_tables_of_numbers_of_codes_or_of_both_give_logits(spec):
    rows = torch.zeros(6, spec.numeric + len(spec.cardinalities))
    assert models.build("mlp", spec, num_classes=4)(rows).shape == (6, 4)


def test_the_largest_code_is_taken_and_the_one_above_is_not():
    model = models.build("mlp", TableSpec(0, (100_000,)), num_classes=2)
    model(torch.tensor([[99_999.0]]))
    with pytest.raises(IndexError):
        model(torch.tensor([[100_000.0]]))


def test_hidden_gives_the_units_of_each_layer():
    model = models.build("mlp", ImageSpec(1, 8, 8, (0.5,), (0.5,)), num_classes=10, hidden=(32, 16))
    sizes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(64, 32), (32, 16), (16, 10)]


def test_no_hidden_layer_is_a_linear_model():
    model = models.build("mlp", TableSpec(3, ()), num_classes=2, hidden=())
    rows = torch.randn(4, 3)
    torch.testing.assert_close(model(rows), rows @ model.classifier.weight.T + model.classifier.bias)
