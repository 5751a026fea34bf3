"""How often each class and each sample comes in an epoch."""

import pytest
import torch

from imbsam.data.samplers import class_weighted, epoch_order, repeated
from imbsam.errors import PriorsError
from imbsam.priors import ClassPriors

COUNTS = (5400, 0, 540, 60)
TARGETS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_square_root_sampler_draws_classes_by_the_roots_of_their_counts():
    order = class_weighted(TARGETS, generator(), power=0.5)
    roots = torch.tensor(COUNTS).double().sqrt()
    drawn = torch.bincount(TARGETS[order], minlength=4)
    assert len(order) == 6000
    assert drawn.tolist() == pytest.approx((6000 * roots / roots.sum()).tolist(), abs=200)
    assert torch.bincount(order)[5940:].min() > 0


def test_power_one_is_drawing_samples_alike():
    drawn = torch.bincount(TARGETS[class_weighted(TARGETS, generator(), power=1.0)], minlength=4)
    assert drawn.tolist() == pytest.approx(COUNTS, abs=200)


def test_repeat_factors_are_those_of_lvis():
    priors = ClassPriors.from_counts([900, 90, 10])
    expected = [1.0, (0.2 / 0.09) ** 0.5, (0.2 / 0.01) ** 0.5]
    assert priors.repeat_factors(0.2).tolist() == pytest.approx(expected)


def test_classes_below_an_equal_share_are_repeated_unless_said_otherwise():
    factors = ClassPriors.from_counts([900, 0, 90, 10]).repeat_factors()
    third = 1 / 3
    assert factors.tolist() == pytest.approx([1.0, 1.0, (third / 0.09) ** 0.5, (third / 0.01) ** 0.5])


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(PriorsError, match="threshold must be a share above 0, at most 1"):
        ClassPriors.from_counts([9, 1]).repeat_factors(threshold)


@pytest.mark.parametrize("threshold", [None, 0.05, 1.0])
def test_each_sample_comes_as_often_as_its_factor_says(threshold):
    factors = ClassPriors.from_targets(TARGETS).repeat_factors(threshold)[TARGETS]
    orders = [repeated(TARGETS, generator(seed), threshold=threshold) for seed in range(200)]
    epochs = [torch.bincount(order, minlength=6000) for order in orders]
    for copies in epochs:
        assert bool((copies >= factors.floor()).all())
        assert bool((copies <= factors.floor() + 1).all())
    mean = torch.stack(epochs).double().mean(0)
    for index in (0, 2, 3):
        assert float(mean[index == TARGETS].mean()) == pytest.approx(float(factors[index == TARGETS][0]), rel=0.02)
    # Every sample of a class alike, not always the same ones.
    assert float((mean - factors).abs().max()) < 0.2


def test_every_epoch_of_the_repeated_sampler_is_as_long():
    assert len({len(repeated(TARGETS, generator(seed))) for seed in range(20)}) == 1


def test_balanced_data_repeat_nothing():
    assert repeated(torch.arange(30) % 3, generator()).sort().values.tolist() == list(range(30))


@pytest.mark.parametrize("sampler", ["shuffle", "balanced", "square-root", "repeated"])
def test_an_order_is_shuffled_and_that_of_its_generator(sampler):
    first, again, other = (epoch_order(sampler, TARGETS, generator(seed), batch_size=8) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, first.sort().values)
