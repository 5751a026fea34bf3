import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbsam.data.seeding import generator
from imbsam.data.splits import random_ranks, stratified_split
from imbsam.errors import OptionError


def split(counts, fraction, seed=0):
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    kept, held = stratified_split(targets, fraction, generator(seed))
    return targets, kept, held


def test_each_class_gives_its_share():
    targets, _, held = split([100, 50, 10], 0.2)
    assert torch.bincount(targets[held]).tolist() == [20, 10, 2]


def test_a_class_of_three_gives_one_and_a_smaller_class_none():
    targets, kept, held = split([3, 2, 1, 0], 0.1)
    assert targets[held].tolist() == [0]
    assert targets[kept].tolist() == [0, 0, 1, 1, 2]


def test_a_class_keeps_one_sample_however_large_the_fraction():
    targets, kept, _ = split([5, 4], 0.99)
    assert targets[kept].tolist() == [0, 1]


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_every_sample_is_kept_or_held_out_once(counts, fraction, seed):
    targets, kept, held = split(counts, fraction, seed)
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(targets)))


def test_the_seed_decides_the_split():
    assert torch.equal(split([40, 40], 0.3)[2], split([40, 40], 0.3)[2])
    assert not torch.equal(split([40, 40], 0.3)[2], split([40, 40], 0.3, seed=1)[2])


def test_ranks_are_a_permutation_within_each_class():
    targets = torch.tensor([2, 0, 0, 2, 2, 5, 0])
    ranks = random_ranks(targets, generator(3))
    assert sorted(ranks[targets == 0].tolist()) == [0, 1, 2]
    assert sorted(ranks[targets == 2].tolist()) == [0, 1, 2]
    assert ranks[5] == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(OptionError, match="fraction"):
        split([5, 5], fraction)
