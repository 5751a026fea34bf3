import pytest
import torch

from imbsam.anomaly.batches import Batching, in_turns, pair_batches, pair_counts, row_batches
from imbsam.data.seeding import generator
from imbsam.errors import OptionError

KINDS = torch.tensor([0] * 40 + [1] * 3 + [2] * 10)


def epoch(batching, seed=0, kinds=KINDS):
    return list(row_batches(kinds, batching, generator(seed)))


def test_left_to_chance_every_row_stands_in_one_batch():
    batches = epoch(Batching(16))
    assert [len(batch) for batch in batches] == [16, 16, 16, 5]
    assert sorted(torch.cat(batches).tolist()) == list(range(53))


@pytest.mark.parametrize("anomalies", [1, 2, 3, 5])
def test_each_batch_has_the_labelled_anomalies_asked_for(anomalies):
    for batch in epoch(Batching(16, anomalies)):
        assert int((KINDS[batch] == 1).sum()) == anomalies


def test_beside_guaranteed_anomalies_every_other_row_stands_exactly_once():
    batches = epoch(Batching(16, 5))
    assert [len(batch) for batch in batches] == [16, 16, 16, 16, 11]
    others = [row for row in torch.cat(batches).tolist() if KINDS[row] != 1]
    assert sorted(others) == [row for row in range(53) if KINDS[row] != 1]


def test_labelled_anomalies_take_turns():
    batches = epoch(Batching(16, 2))
    drawn = [row for row in torch.cat(batches).tolist() if KINDS[row] == 1]
    counts = [drawn.count(row) for row in (40, 41, 42)]
    assert max(counts) - min(counts) <= 1


def test_values_come_again_only_after_all_others():
    drawn = in_turns(torch.tensor([7, 8, 9]), 8, generator(0)).tolist()
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [7, 8, 9]
    assert len(drawn) == 8


def test_without_a_labelled_anomaly_none_can_be_guaranteed():
    batches = epoch(Batching(16, 4), kinds=torch.zeros(20, dtype=torch.long))
    assert sorted(torch.cat(batches).tolist()) == list(range(20))


def test_a_single_row_left_over_joins_the_batch_before_it():
    assert [len(batch) for batch in epoch(Batching(13))] == [13, 13, 13, 14]


def test_fewer_rows_than_a_batch_make_one_batch():
    assert [len(batch) for batch in epoch(Batching(128))] == [53]
    assert [len(batch) for batch in epoch(Batching(128, 16))] == [66]


def test_the_seed_makes_the_batches():
    assert torch.equal(torch.cat(epoch(Batching(16, 3))), torch.cat(epoch(Batching(16, 3))))
    assert not torch.equal(torch.cat(epoch(Batching(16, 3))), torch.cat(epoch(Batching(16, 3), seed=1)))


def test_pairs_hold_the_labelled_anomalies_they_are_said_to_hold():
    for pairs, held in pair_batches(KINDS, Batching(16, 8), generator(0)):
        assert (KINDS[pairs] == 1).sum(dim=1).tolist() == held.tolist()
        assert bool((pairs[held == 2, 0] != pairs[held == 2, 1]).all())
        assert bool((KINDS[pairs[held == 1]][:, 1] == 1).all())


def test_half_of_the_pairs_with_a_labelled_anomaly_have_two():
    _, held = next(pair_batches(KINDS, Batching(16, 8), generator(0)))
    assert torch.bincount(held).tolist() == [8, 4, 4]


def test_with_one_labelled_anomaly_there_are_no_pairs_of_two():
    _, held = next(pair_batches(torch.tensor([0] * 30 + [1]), Batching(16, 8), generator(0)))
    assert torch.bincount(held).tolist() == [8, 8]


def test_every_row_that_is_no_labelled_anomaly_stands_first_in_one_pair():
    firsts = torch.cat([pairs[held < 2, 0] for pairs, held in pair_batches(KINDS, Batching(16, 8), generator(0))])
    assert sorted(firsts.tolist()) == [row for row in range(53) if KINDS[row] != 1]


def test_pairs_are_counted():
    assert pair_counts(KINDS).tolist() == [50 * 50, 2 * 50 * 3, 9]


@pytest.mark.parametrize(("size", "anomalies"), [(1, 0), (8, 8), (8, -1)])
def test_sizes_out_of_range_are_refused(size, anomalies):
    with pytest.raises(OptionError, match="must be at least"):
        Batching(size, anomalies)


def test_pairs_without_a_labelled_anomaly_are_refused():
    with pytest.raises(OptionError, match="anomalies_per_batch=0 makes no pair with a labelled anomaly"):
        next(pair_batches(KINDS, Batching(16, 0), generator(0)))
