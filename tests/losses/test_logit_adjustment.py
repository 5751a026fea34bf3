import math

import pytest
import torch

from imbsam.errors import OptionError, PriorsError
from imbsam.losses import BalancedSoftmax, CrossEntropy, LogitAdjustment, adjust_logits
from imbsam.priors import ClassPriors


def test_tau_1_is_balanced_softmax_up_to_rounding(priors, logits, targets):
    adjusted = LogitAdjustment(priors)(logits, targets)
    torch.testing.assert_close(adjusted, BalancedSoftmax(priors)(logits, targets), rtol=1e-6, atol=1e-6)


def test_tau_0_is_cross_entropy_bitwise(priors, logits, targets):
    assert torch.equal(LogitAdjustment(priors, tau=0)(logits, targets), CrossEntropy()(logits, targets))


def test_equal_counts_leave_cross_entropy(logits, targets):
    balanced = ClassPriors.from_counts([7] * 5)
    torch.testing.assert_close(LogitAdjustment(balanced)(logits, targets), CrossEntropy()(logits, targets))


def test_adjusted_logits_are_written_out():
    adjusted = adjust_logits(torch.tensor([[1.0, 2.0, 3.0]]).double(), ClassPriors.from_counts([6, 3, 1]), tau=2)
    expected = [1 - 2 * math.log(0.6), 2 - 2 * math.log(0.3), 3 - 2 * math.log(0.1)]
    torch.testing.assert_close(adjusted, torch.tensor([expected], dtype=torch.double), rtol=1e-14, atol=0)


def test_adjusting_predicts_a_rare_class_that_the_prior_hid():
    # The logits of a model that has learnt the prior alone, but for a slight sign of class 1.
    priors = ClassPriors.from_counts([99, 1])
    logits = priors.log_priors.float() + torch.tensor([0.0, 0.5])
    assert int(logits.argmax()) == 0
    assert int(adjust_logits(logits.unsqueeze(0), priors).argmax()) == 1


def test_half_precision_logits_are_adjusted_in_float32(priors):
    assert adjust_logits(torch.zeros(2, 5, dtype=torch.bfloat16), priors).dtype == torch.float32


def test_adjusting_refuses_what_the_loss_refuses(priors):
    with pytest.raises(OptionError, match="tau"):
        adjust_logits(torch.zeros(2, 5), priors, tau=math.inf)
    with pytest.raises(PriorsError, match="class 0 has none"):
        adjust_logits(torch.zeros(2, 2), ClassPriors.from_counts([0, 3]))
    with pytest.raises(PriorsError, match="do not fit priors of 5 classes"):
        adjust_logits(torch.zeros(2, 4), priors)
