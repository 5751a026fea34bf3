import torch

from imbsam.losses import CrossEntropy, LogitAdjustment, VectorScaling


def test_gamma_0_is_logit_adjustment_bitwise(priors, logits, targets):
    scaled = VectorScaling(priors, gamma=0, tau=1.25)(logits, targets)
    assert torch.equal(scaled, LogitAdjustment(priors, tau=1.25)(logits, targets))


def test_gamma_0_and_tau_0_is_cross_entropy_bitwise(priors, logits, targets):
    assert torch.equal(VectorScaling(priors, gamma=0, tau=0)(logits, targets), CrossEntropy()(logits, targets))


def test_the_most_frequent_class_is_not_scaled_and_rare_ones_are_scaled_down(priors):
    scale = VectorScaling(priors, gamma=0.5).scale
    torch.testing.assert_close(scale, torch.tensor([1, 0.24**0.5, 0.08**0.5, 0.018**0.5, 0.002**0.5]))
