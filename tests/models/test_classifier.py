import math

import torch
from torch import nn

from imbsam import models
from imbsam.models.classifier import classifier_name


def test_logits_are_the_cosines_written_out():
    torch.manual_seed(0)
    layer = models.CosineClassifier(4, 3).double()
    features = torch.randn(5, 4, dtype=torch.double)
    for row, logits in zip(features.tolist(), layer(features).tolist(), strict=True):
        for weight, logit in zip(layer.weight.tolist(), logits, strict=True):
            product = sum(a * b for a, b in zip(row, weight, strict=True))
            assert abs(product / (math.hypot(*row) * math.hypot(*weight)) - logit) < 1e-14


def test_the_length_of_features_and_weights_does_not_matter():
    layer = models.CosineClassifier(6, 3).double()
    features = torch.randn(5, 6, dtype=torch.double)
    logits = layer(features)
    with torch.no_grad():
        layer.weight.mul_(1000)
    torch.testing.assert_close(layer(features / 50), logits)


def test_zero_features_give_zero_logits_and_a_finite_gradient_in_every_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        features = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
        logits = models.CosineClassifier(4, 3).to(dtype)(features)
        logits.sum().backward()
        assert torch.equal(logits, torch.zeros(2, 3, dtype=dtype))
        assert not features.grad.isnan().any()


def test_the_only_layer_of_as_many_outputs_as_classes_is_the_classifier():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3)))
    assert classifier_name(model, 3) == "2.0"
    assert classifier_name(model, 5) is None


def test_of_two_such_layers_none_is_the_classifier_unless_it_is_called_so():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    assert classifier_name(model, 3) is None
    model.classifier = nn.Linear(3, 3)
    assert classifier_name(model, 3) == "classifier"
