import pytest
import torch

from imbsam import losses
from imbsam.errors import OptionError, PriorsError
from imbsam.losses import CrossEntropy, Deferred
from imbsam.priors import ClassPriors
from losses import written_out


@pytest.mark.parametrize("name", losses.LOSSES)
def test_before_the_start_losses_are_the_inner_ones_bitwise(name, priors, logits, targets):
    inner = losses.build(name, priors)
    deferred = Deferred(inner, priors, start=160)
    for epoch in (0, 159):
        deferred.set_epoch(epoch)
        assert torch.equal(deferred(logits, targets), inner(logits, targets))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_from_the_start_on_losses_carry_class_balanced_weights(name, priors, logits, targets):
    inner = losses.build(name, priors)
    deferred = Deferred(inner, priors, start=160, beta=0.99)
    weights = written_out.class_balanced_weights([500, 120, 40, 9, 1], 0.99)
    expected = inner(logits, targets) * torch.tensor([weights[y] for y in targets.tolist()], dtype=torch.double)
    for epoch in (160, 199):
        deferred.set_epoch(epoch)
        torch.testing.assert_close(deferred(logits, targets), expected, rtol=1e-6, atol=0)


def test_a_start_of_0_weighs_from_the_first_epoch_without_being_told(priors, logits, targets):
    always = Deferred(CrossEntropy(), priors, start=0)
    assert torch.equal(always(logits, targets), losses.ClassBalanced(priors)(logits, targets))


def test_the_epoch_alone_restores_a_resumed_criterion(priors, logits, targets):
    running = Deferred(CrossEntropy(), priors, start=2)
    for epoch in range(4):
        running.set_epoch(epoch)
    resumed = Deferred(CrossEntropy(), priors, start=2)
    resumed.load_state_dict(running.state_dict())
    resumed.set_epoch(3)
    assert torch.equal(resumed(logits, targets), running(logits, targets))
    running.set_epoch(1)
    assert not torch.equal(resumed(logits, targets), running(logits, targets))


def test_it_moves_with_its_criterion(priors):
    deferred = Deferred(losses.LDAM(priors), priors, start=1).to("meta")
    assert {buffer.device.type for buffer in deferred.buffers()} == {"meta"}
    assert len(list(deferred.buffers())) == 2


@pytest.mark.parametrize("start", [-1, 1.5, True])
def test_a_start_that_is_no_epoch_is_refused(start, priors):
    with pytest.raises(OptionError, match="start must be an epoch"):
        Deferred(CrossEntropy(), priors, start=start)


def test_a_class_without_samples_or_a_beta_of_1_is_refused(priors):
    with pytest.raises(PriorsError, match="class 1 has none"):
        Deferred(CrossEntropy(), ClassPriors.from_counts([3, 0]), start=1)
    with pytest.raises(OptionError, match="beta must be a number in"):
        Deferred(CrossEntropy(), priors, start=1, beta=1)
