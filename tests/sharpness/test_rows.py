import pytest
import torch

from imbsam.errors import DataError, OptionError
from imbsam.sharpness import Rows

TARGETS = torch.tensor([2, 0, 2, 0, 0, 3, 2, 0])
INPUTS = torch.arange(8.0)[:, None]


def test_rows_are_drawn_of_each_class_and_stand_sorted_by_it():
    rows = Rows.draw(INPUTS, TARGETS, per_class=2, num_classes=5)
    assert rows.targets.tolist() == [0, 0, 2, 2, 3]
    assert TARGETS[rows.indices].tolist() == rows.targets.tolist()
    assert len(set(rows.indices.tolist())) == 5
    assert (rows.sizes.tolist(), rows.drawn.tolist()) == ([4, 0, 3, 1, 0], [2, 0, 2, 1, 0])
    assert rows.inputs(torch.tensor([4]))[0] == 5


def test_the_same_seed_draws_the_same_rows_and_another_seed_others():
    drawn = [Rows.draw(INPUTS, TARGETS, per_class=2, seed=s).indices.tolist() for s in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(d) for d in drawn}) > 1


def test_without_a_bound_every_row_is_taken_once():
    assert sorted(Rows.draw(INPUTS, TARGETS).indices.tolist()) == list(range(8))


def test_shares_weigh_classes_by_their_rows_in_the_data():
    assert Rows.draw(INPUTS, TARGETS, per_class=1).shares([0, 3]).tolist() == [0.8, 0, 0, 0.2]


def test_batches_give_the_first_rows_of_each_class_and_count_all():
    rows = Rows.from_batches([(INPUTS[:3], TARGETS[:3]), (INPUTS[3:], TARGETS[3:])], per_class=2, num_classes=5)
    assert rows.inputs(torch.arange(5)).flatten().sort().values.tolist() == [0, 1, 2, 3, 5]
    assert (rows.sizes.tolist(), rows.drawn.tolist()) == ([4, 0, 3, 1, 0], [2, 0, 2, 1, 0])


def test_rows_in_memory_are_fetched_once():
    calls = []

    def fetch(indices):
        calls.append(len(indices))
        return INPUTS[indices]

    rows = Rows.draw(fetch, TARGETS, per_class=2)
    held = rows.in_memory()
    assert torch.equal(held.inputs(torch.tensor([1, 4])), rows.inputs(torch.tensor([1, 4])))
    assert calls == [5, 2]


@pytest.mark.parametrize(
    ("targets", "options", "error"),
    [
        (torch.tensor([], dtype=torch.long), {}, DataError),
        (torch.tensor([0, -1]), {}, DataError),
        (torch.tensor([0, 3]), {"num_classes": 3}, DataError),
        (torch.tensor([0, 1]), {"per_class": 0}, OptionError),
    ],
)
def test_rows_that_cannot_be_are_refused(targets, options, error):
    with pytest.raises(error):
        Rows.draw(INPUTS[: len(targets)], targets, **options)


def test_batches_without_a_row_are_refused():
    with pytest.raises(DataError, match="hold no row"):
        Rows.from_batches([])
