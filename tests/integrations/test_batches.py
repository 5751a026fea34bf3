"""Rows are taken out of any batch as it has them, and what has no clear rows is asked about."""

import datetime
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils.data import default_collate
from transformers import BatchEncoding
from transformers.modeling_outputs import SequenceClassifierOutput

from imbsam.errors import DataError
from imbsam.integrations.batches import BatchReader, count_rows, take_rows
from imbsam.integrations.rows import joined

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")

SIZE = 5
MIDDLE = torch.tensor([1, 3])


class Named(NamedTuple):
    x: object
    y: object


@dataclass(frozen=True, slots=True)
class Frozen:
    x: object
    y: object


@dataclass
class Normalised:
    """It changes what it is given, and knows a field that nobody gives."""

    x: Tensor
    rows: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.x = self.x / 255
        self.rows = torch.arange(len(self.x))


def numbers(size: int = SIZE) -> Tensor:
    return torch.arange(size * 2.0).view(size, 2)


def ragged(size: int = SIZE) -> list[Tensor]:
    return [torch.full((size + 1 + i % 3,), float(i)) for i in range(size)]


LEAVES: list[Callable[[], object]] = [
    numbers,
    lambda: torch.arange(SIZE),
    lambda: numbers().to_sparse(),
    lambda: np.array([f"row {i}" for i in range(SIZE)], dtype=object),
    lambda: torch.nested.nested_tensor(ragged()),
    lambda: torch.nested.nested_tensor(ragged(), layout=torch.jagged),
    lambda: pack_sequence(ragged(), enforce_sorted=False),
    ragged,
    lambda: tuple(ragged()),
    lambda: [{"boxes": each, "id": i} for i, each in enumerate(ragged())],
    lambda: [(each, i) for i, each in enumerate(ragged())],
    lambda: (224, 160),
    lambda: ["mean", "std"],
    lambda: torch.Size([SIZE] * SIZE),
    lambda: torch.tensor(2.0),
    lambda: "train",
    lambda: None,
    lambda: Path("images"),
    lambda: datetime.date(2024, 2, 29),
    lambda: np.float32(0.5),
]
CONTAINERS: list[Callable[[object, object], object]] = [
    lambda x, y: {"x": x, "y": y},
    lambda x, y: OrderedDict(x=x, y=y),
    lambda x, y: UserDict(x=x, y=y),
    lambda x, y: defaultdict(list, x=x, y=y),
    lambda x, y: MappingProxyType({"x": x, "y": y}),
    lambda x, y: BatchEncoding({"x": x, "y": y}),
    lambda x, y: [x, y],
    lambda x, y: (x, y),
    Named,
    Frozen,
]
BATCHES = st.recursive(
    st.sampled_from(LEAVES).map(lambda make: make()),
    lambda parts: st.builds(lambda make, x, y: make(x, y), st.sampled_from(CONTAINERS), parts, parts),
    max_leaves=6,
)


def same(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, PackedSequence):
        return same(unpack_sequence(one), unpack_sequence(other))
    if isinstance(one, Tensor):
        if one.is_nested:
            return one.layout == other.layout and same(list(one.unbind()), list(other.unbind()))
        return one.dtype == other.dtype and torch.equal(one.to_dense(), other.to_dense())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    return one == other


@settings(max_examples=200)
@given(BATCHES, st.integers(1, SIZE - 1))
def test_rows_taken_in_two_parts_and_joined_are_the_batch(batch: object, at: int) -> None:
    read = BatchReader().read(batch, SIZE)
    whole = joined([read.take(torch.arange(at)), read.take(torch.arange(at, SIZE))])
    assert whole is not None
    assert same(whole.value, batch)
    assert read.value is batch


@settings(max_examples=100)
@given(BATCHES)
def test_rows_of_rows_are_those_of_the_batch(batch: object) -> None:
    read = BatchReader().read(batch, SIZE)
    assert same(read.take(MIDDLE).take(torch.tensor([1])).value, read.take(torch.tensor([3])).value)


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        (numbers(), torch.tensor([[2.0, 3.0], [6.0, 7.0]])),
        (np.arange(SIZE), np.array([1, 3])),
        (ragged(), [ragged()[1], ragged()[3]]),
        ([{"id": torch.arange(i)} for i in range(SIZE)], [{"id": torch.arange(1)}, {"id": torch.arange(3)}]),
        ([SIZE, SIZE - 1], [SIZE, SIZE - 1]),
        ([torch.arange(SIZE), -torch.arange(SIZE)], [MIDDLE, -MIDDLE]),
        ([None, *ragged()[1:]], [ragged()[1], ragged()[3]]),
        ("train", "train"),
    ],
)
def test_rows_are_taken_of_what_has_them(part: object, rows: object) -> None:
    assert same(take_rows({"part": part}, MIDDLE, SIZE), {"part": rows})


def test_packed_sequences_are_cut_in_the_order_of_the_rows() -> None:
    taken = take_rows(pack_sequence(ragged(), enforce_sorted=False), MIDDLE, SIZE)
    assert same(unpack_sequence(taken), [ragged()[1], ragged()[3]])


def test_a_dataclass_is_copied_as_it_is() -> None:
    taken = take_rows(Normalised(numbers()), MIDDLE, SIZE)
    assert isinstance(taken, Normalised)
    assert torch.equal(taken.x, numbers()[MIDDLE] / 255)
    assert torch.equal(taken.rows, MIDDLE)


def test_outputs_of_transformers_stay_what_they_are() -> None:
    taken = take_rows(SequenceClassifierOutput(logits=numbers()), MIDDLE, SIZE)
    assert isinstance(taken, SequenceClassifierOutput)
    assert torch.equal(taken.logits, numbers()[MIDDLE])
    assert torch.equal(taken["logits"], numbers()[MIDDLE])


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (torch.zeros(3, 2), r"a tensor of shape \(3, 2\) in a batch of 2 rows"),
        (np.zeros((3, 2)), r"a tensor of shape \(3, 2\) in a batch of 2 rows"),
        (pack_sequence(ragged(3), enforce_sorted=False), "with 3 sequences in a batch of 2 rows"),
        (SimpleNamespace(x=torch.zeros(2)), "the class SimpleNamespace, whose rows are not known"),
        ({"a", "b"}, "the class set"),
        ((224, 160), "a tuple of 2 things in a batch of 2 rows"),
        (["mean", "std"], "a list of 2 things"),
        ([torch.arange(2), torch.arange(2)], "a list of 2 things"),
        ([{"x": torch.zeros(2)}, {"x": torch.zeros(2)}], "a list of 2 things"),
    ],
)
def test_what_has_no_clear_rows_is_named_and_how_to_settle_it(part: object, says: str) -> None:
    with pytest.raises(DataError, match=rf"batch\['more'\]\[0\].*{says}.*take_rows\(batch, rows\)"):
        take_rows({"x": torch.zeros(2, 3), "more": (part, torch.zeros(2), 1)}, torch.tensor([1]), 2)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_layout_without_rows_is_named() -> None:
    with pytest.raises(DataError, match="batch is a tensor of the layout"):
        take_rows(torch.eye(2).to_sparse_csr(), torch.tensor([1]), 2)


def test_a_pair_of_two_rows_is_two_columns() -> None:
    for pair in (
        (numbers(2), torch.arange(2)),
        [numbers(2), numbers(2)],
        (ragged(2), [{"boxes": each} for each in ragged(2)]),
    ):
        first, second = take_rows(pair, torch.tensor([1]), 2)
        assert (len(first), len(second)) == (1, 1)


def test_a_sequence_first_pair_of_two_rows_is_not_taken_for_two_rows() -> None:
    with pytest.raises(DataError, match=r"batch\[0\], a tensor of shape \(3, 2\) in a batch of 2 rows"):
        take_rows((torch.zeros(3, 2), torch.arange(2)), torch.tensor([1]), 2)


@pytest.mark.parametrize("rows_first", [True, False])
def test_a_batch_of_another_size_tells_what_a_list_holds(rows_first: bool) -> None:
    reader = BatchReader()
    reader.read({"part": [torch.zeros(2), torch.zeros(2)] if not rows_first else ragged(4)}, 4 if rows_first else 2)
    if not rows_first:
        reader.read({"part": [torch.zeros(4), torch.zeros(4)]}, 4)
    taken = reader.read({"part": [torch.arange(2), torch.arange(2)]}, 2).take(torch.tensor([1])).value
    assert same(taken["part"], [torch.arange(2)] if rows_first else [torch.tensor([1]), torch.tensor([1])])


def test_what_default_collate_made_is_clear() -> None:
    reader = BatchReader()
    reader.collated = True
    samples = [{"path": f"{i}.png", "pair": (float(i), -float(i)), "size": (8, 9)} for i in range(2)]
    taken = reader.read(default_collate(samples), 2).take(torch.tensor([1])).value
    assert same(taken, default_collate(samples[1:]))


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        (numbers(), 5),
        ([numbers(), torch.arange(5), torch.arange(5)], 5),
        ([numbers(3), numbers(3), numbers(3)], 3),
        ([numbers(4), numbers(4), numbers(4)], 4),
        ({"seq": ragged(), "size": (224, 160)}, 5),
        ({"seq": ragged(3), "names": ["a", "b"]}, 3),
        ((ragged(), [{"boxes": torch.zeros(i, 4)} for i in range(1, 6)]), 5),
        ([{"x": torch.zeros(3, i)} for i in range(1, 6)] + [{"x": torch.zeros(4, 1)}], 6),
        (pack_sequence(ragged(), enforce_sorted=False), 5),
        (torch.nested.nested_tensor(ragged(), layout=torch.jagged), 5),
        (Frozen(numbers(), "train"), 5),
        (Named(np.zeros(5), None), 5),
        (["a", "b", "c"], 3),
    ],
)
def test_rows_are_counted(batch: object, rows: int) -> None:
    assert count_rows(batch) == rows


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({"x": numbers(4), "y": numbers(3)}, r"lengths \[3, 4\]"),
        ([{"x": numbers(3)}, {"x": numbers(3)}], "it may have 2 or 3"),
        (SimpleNamespace(x=numbers()), r"lengths \[\]"),
        ({"scale": 2.0}, r"lengths \[\]"),
    ],
)
def test_rows_that_cannot_be_counted_are_asked_for(batch: object, says: str) -> None:
    with pytest.raises(DataError, match=rf"{says}.*row_targets"):
        count_rows(batch)
