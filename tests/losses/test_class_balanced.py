import torch

from imbsam.losses import ClassBalanced, CrossEntropy, class_balanced_weights
from imbsam.priors import ClassPriors


def test_beta_0_is_cross_entropy_bitwise(priors, logits, targets):
    assert torch.equal(ClassBalanced(priors, beta=0)(logits, targets), CrossEntropy()(logits, targets))


def test_weights_sum_to_the_number_of_classes_and_grow_with_rarity(priors):
    weights = class_balanced_weights(priors)
    assert abs(float(weights.sum()) - 5) < 1e-12
    assert torch.equal(weights.argsort(), torch.arange(5))


def test_weights_of_a_beta_near_1_are_inverse_counts():
    weights = class_balanced_weights(ClassPriors.from_counts([8, 4, 1]), beta=1 - 1e-9)
    torch.testing.assert_close(weights, torch.tensor([0.125, 0.25, 1.0]).double() * 3 / 1.375, rtol=1e-6, atol=0)


def test_equal_counts_weigh_1():
    weights = class_balanced_weights(ClassPriors.from_counts([30, 30, 30, 30]))
    torch.testing.assert_close(weights, torch.ones(4, dtype=torch.double), rtol=0, atol=1e-15)
