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
    VectorScaling,
)

MIX = {
    "cross-entropy": lambda priors: CrossEntropy(),
    "balanced softmax": BalancedSoftmax,
    "logit adjustment": LogitAdjustment,
    "vector scaling": VectorScaling,
    "class-balanced": ClassBalanced,
}
CLASSES_ALONE = {
    "the focal loss": lambda priors: Focal(),
    "LDAM": LDAM,
    "deferred re-weighting": lambda priors: Deferred(CrossEntropy(), priors, start=1),
}


@pytest.mark.parametrize("name", MIX)
def test_a_mixed_row_has_the_mix_of_its_losses(name, priors, logits, targets):
    criterion = MIX[name](priors)
    mixed = 0.3 * F.one_hot(targets, 5).double() + 0.7 * F.one_hot(targets.flip(0), 5).double()
    expected = 0.3 * criterion(logits, targets) + 0.7 * criterion(logits, targets.flip(0))
    torch.testing.assert_close(criterion(logits, mixed), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CLASSES_ALONE)
def test_a_loss_that_goes_by_classes_says_so(name, priors, logits, targets):
    with pytest.raises(OptionError, match=rf"{name} goes by the class of each row.*lam \* criterion"):
        CLASSES_ALONE[name](priors)(logits, F.one_hot(targets, 5).double())
