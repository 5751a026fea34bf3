"""Targets that are probabilities: a loss is the mix of its values at the classes, or says that it cannot be."""

import pytest
import torch
import torch.nn.functional as F

from imbsam.errors import OptionError
from imbsam.losses import (
    LDAM,
    BalancedSoftmax,
    ClassBalanced,
    CrossEntropy,
    Deferred,
    Focal,
    LogitAdjustment,
    Smoothed,
    VectorScaling,
)

MIX = {
    "cross-entropy": lambda priors: CrossEntropy(),
    "balanced softmax": BalancedSoftmax,
    "logit adjustment": LogitAdjustment,
    "vector scaling": VectorScaling,
    "class-balanced": ClassBalanced,
    "the focal loss": lambda priors: Focal(),
    "smoothed": lambda priors: Smoothed(LogitAdjustment(priors), 0.2),
    "deferred": lambda priors: Deferred(CrossEntropy(), priors, start=1),
    "re-weighted": lambda priors: Deferred(Smoothed(Focal(), 0.1), priors, start=0),
}


@pytest.mark.parametrize("name", MIX)
def test_a_mixed_row_has_the_mix_of_its_losses(name, priors, logits, targets):
    criterion = MIX[name](priors)
    mixed = 0.3 * F.one_hot(targets, 5).double() + 0.7 * F.one_hot(targets.flip(0), 5).double()
    expected = 0.3 * criterion(logits, targets) + 0.7 * criterion(logits, targets.flip(0))
    torch.testing.assert_close(criterion(logits, mixed), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", MIX)
def test_memberships_in_single_precision_will_do(name, priors, logits, targets):
    criterion, one_hot = MIX[name](priors), F.one_hot(targets, 5)
    torch.testing.assert_close(criterion(logits, one_hot.float()), criterion(logits, targets), atol=1e-6, rtol=1e-6)


def test_a_row_without_a_class_has_no_loss_under_weights(priors, logits):
    criterion = Deferred(CrossEntropy(), priors, start=0)
    assert criterion(logits, torch.zeros_like(logits)).tolist() == [0.0] * len(logits)


def test_ldam_goes_by_classes_and_says_so(priors, logits, targets):
    with pytest.raises(OptionError, match=r"LDAM needs the class of each row.*lam \* criterion"):
        LDAM(priors)(logits, F.one_hot(targets, 5).double())
