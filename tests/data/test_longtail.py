import pytest
import torch

from imbsam.data import long_tail, long_tail_counts
from imbsam.data.seeding import generator
from imbsam.errors import OptionError

BALANCED = torch.arange(10).repeat_interleave(60)


def kept(**options):
    return long_tail(BALANCED, **({"imbalance": 10, "generator": generator(0)} | options))


def counts_of(indices):
    return torch.bincount(BALANCED[indices], minlength=10).tolist()


@pytest.mark.parametrize(
    ("available", "imbalance", "counts"),
    [
        (5000, 100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (500, 100, [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]),
    ],
)
def test_ten_classes_at_imbalance_100_have_the_published_counts(available, imbalance, counts):
    assert long_tail_counts(torch.full((10,), available), imbalance).tolist() == counts


@pytest.mark.parametrize(("imbalance", "total"), [(10, 19573), (20, 15907), (50, 12608), (100, 10847), (200, 9502)])
def test_a_hundred_classes_have_the_published_totals(imbalance, total):
    assert int(long_tail_counts(torch.full((100,), 500), imbalance).sum()) == total


def test_the_step_profile_cuts_the_second_half_of_the_classes():
    assert int(long_tail_counts(torch.full((100,), 500), 100, "step").sum()) == 25250
    assert long_tail_counts(torch.full((5,), 50), 10, "step").tolist() == [50, 50, 50, 5, 5]


def test_no_class_goes_below_one_sample_or_above_what_it_has():
    assert long_tail_counts(torch.tensor([40, 3, 40, 40]), 1000).tolist() == [40, 3, 1, 1]


def test_imbalance_one_keeps_everything():
    assert torch.equal(kept(imbalance=1), torch.arange(600))


def test_the_last_classes_are_the_rare_ones():
    counts = counts_of(kept())
    assert counts == sorted(counts, reverse=True) == [60, 46, 35, 27, 21, 16, 12, 10, 7, 6]


def test_rare_random_draws_which_classes_are_rare_by_the_seed():
    orders = {tuple(counts_of(kept(rare="random", generator=generator(seed)))) for seed in range(4)}
    assert len(orders) == 4
    assert {tuple(sorted(counts)) for counts in orders} == {(6, 7, 10, 12, 16, 21, 27, 35, 46, 60)}


def test_the_seed_chooses_which_samples_stay():
    assert torch.equal(kept(), kept())
    assert not torch.equal(kept(), kept(generator=generator(1)))


def test_the_first_samples_of_each_class_stay_where_asked_for_whatever_the_seed():
    shuffled = torch.randperm(600, generator=generator(3))
    targets = BALANCED[shuffled]
    indices = long_tail(targets, imbalance=10, subset="first", generator=generator(7))
    for label, wanted in enumerate([60, 46, 35, 27, 21, 16, 12, 10, 7, 6]):
        of_class = [i for i in range(600) if targets[i] == label]
        assert [i for i in indices.tolist() if targets[i] == label] == of_class[:wanted]


def test_a_stronger_imbalance_keeps_a_subset_of_a_weaker_one():
    assert set(kept(imbalance=50).tolist()) < set(kept(imbalance=5).tolist())


@pytest.mark.parametrize(
    "options",
    [
        {"imbalance": 0.5},
        {"imbalance": float("nan")},
        {"imbalance": float("inf")},
        {"profile": "steep"},
        {"rare": "first"},
        {"subset": "last"},
    ],
)
def test_an_option_out_of_range_is_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        kept(**options)
