import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.inputs import TableSpec
from imbsam.losses import LDAM, CrossEntropy
from imbsam.priors import ClassPriors


def test_margins_are_largest_for_the_rarest_class():
    margins = LDAM(ClassPriors.from_counts([625, 16, 1]), max_margin=0.5).margins
    torch.testing.assert_close(margins, torch.tensor([0.1, 0.25, 0.5]))


def test_no_margin_and_scale_1_is_cross_entropy_bitwise(priors, logits, targets):
    assert torch.equal(LDAM(priors, max_margin=0, scale=1)(logits, targets), CrossEntropy()(logits, targets))


def test_it_trains_a_network_with_a_cosine_classifier():
    torch.manual_seed(0)
    targets = torch.tensor([0] * 40 + [1] * 8)
    samples = torch.randn(48, 4) + 2 * targets.unsqueeze(1)
    model = models.build("mlp", TableSpec(4, ()), num_classes=2, hidden=(16,), cosine_classifier=True)
    criterion = LDAM(ClassPriors.from_targets(targets))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        criterion(model(samples), targets).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    predicted = model(samples).argmax(dim=1)
    assert float((predicted == targets)[targets == 1].float().mean()) == pytest.approx(1, abs=0.13)
    assert float((predicted == targets).float().mean()) > 0.9
