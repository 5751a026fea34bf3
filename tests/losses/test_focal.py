import pytest
import torch

from imbsam.losses import CrossEntropy, Focal


def test_gamma_0_is_cross_entropy_bitwise(logits, targets):
    assert torch.equal(Focal(gamma=0)(logits, targets), CrossEntropy()(logits, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_sample_learnt_to_the_last_bit_has_a_zero_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    Focal(gamma=gamma)(logits, torch.tensor([0])).sum().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_wrong_sample_keeps_the_loss_of_cross_entropy():
    logits = torch.tensor([[60.0, 0.0]])
    assert torch.equal(Focal(gamma=3)(logits, torch.tensor([1])), torch.tensor([60.0]))
