"""Label smoothing around any loss."""

import pytest
import torch
import torch.nn.functional as F

from imbsam.errors import OptionError
from imbsam.losses import CrossEntropy, LogitAdjustment, Smoothed, training_shift


def test_around_cross_entropy_it_is_torchs_label_smoothing(logits, targets):
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(Smoothed(CrossEntropy(), 0.3)(logits, targets), expected, atol=1e-12, rtol=0)


def test_smoothing_of_nothing_is_the_loss_itself(priors, logits, targets):
    criterion = LogitAdjustment(priors)
    torch.testing.assert_close(Smoothed(criterion, 0.0)(logits, targets), criterion(logits, targets))


def test_half_precision_is_computed_in_single(logits, targets):
    losses = Smoothed(CrossEntropy(), 0.1)(logits.bfloat16(), targets)
    assert losses.dtype == torch.float32


def test_what_the_outputs_mean_is_that_of_the_loss(priors):
    criterion = LogitAdjustment(priors)
    assert torch.equal(training_shift(Smoothed(criterion, 0.1)), criterion.training_shift)
    assert training_shift(Smoothed(CrossEntropy(), 0.1)) is None


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan"), "much"])
def test_a_smoothing_that_is_no_share_is_refused(smoothing):
    with pytest.raises(OptionError, match="label_smoothing must be a number in"):
        Smoothed(CrossEntropy(), smoothing)
