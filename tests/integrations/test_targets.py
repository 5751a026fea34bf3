"""The classes of a batch are found where they are named so, and are only counted by methods that need none."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import BatchEncoding

from cases import MLP
from imbsam.errors import DataError
from imbsam.integrations.targets import targets_for, targets_of
from integrations import plain

Y = torch.tensor([0, 3, 1, 4])
X = torch.zeros(4, 6)


class Batch(NamedTuple):
    label: Tensor
    image: Tensor
    domain: Tensor


class Pair(NamedTuple):
    image: Tensor
    category: Tensor


@dataclass(frozen=True)
class Record:
    image: Tensor
    target: Tensor
    domain: Tensor


FOUND = [
    {"labels": Y},
    {"x": X, "label": Y},
    {"targets": Y},
    {"target": Y, "y": None},
    {"y": Y, "labels": Y},
    BatchEncoding({"labels": Y}),
    (X, Y),
    [X, Y],
    (X, {"labels": Y}),
    ({"x": X}, Y),
    Batch(Y, X, X),
    Pair(X, Y),
    Record(X, Y, X),
    SimpleNamespace(x=X, y=Y),
]


@pytest.mark.parametrize("batch", FOUND)
def test_the_classes_of_a_batch_are_found(batch: object) -> None:
    assert targets_of(batch) is Y


def test_classes_in_an_array_are_found() -> None:
    assert torch.equal(targets_of({"labels": Y.numpy()}), Y)


@pytest.mark.parametrize("batch", [Y, {"x": Y}, (Y,), (Y, "names"), {"labels": [0, 1]}, (X, (Y, Y)), "text", None])
def test_a_batch_without_classes_is_named(batch: object) -> None:
    with pytest.raises(DataError, match=r"no classes found.*row_targets"):
        targets_of(batch)


@pytest.mark.parametrize("batch", [(X, Y, X), [X, X, Y], (X, Y, Y, "names")])
def test_of_three_parts_none_is_taken_for_the_classes(batch: object) -> None:
    with pytest.raises(DataError, match=r"does not say which are the classes.*row_targets"):
        targets_of(batch)


def test_two_names_for_the_classes_are_asked_about() -> None:
    with pytest.raises(DataError, match="may be its 'labels' or its 'y'"):
        targets_of({"labels": Y, "y": Y.clone()})


def found(name: str, batch: object, find: object = targets_of) -> Tensor:
    return targets_for(plain.optimizer_for(name, MLP.model()), batch, find)


@pytest.mark.parametrize("batch", [X, (X, X, X), {"x": X}, {"x": X, "scale": 2.0}, (X, X), {"labels": X > 0}])
def test_a_method_that_needs_no_classes_only_counts_the_rows(batch: object) -> None:
    targets = found("sam", batch)
    assert targets.shape == (4,)
    assert not targets.any()


def test_integers_reach_a_method_that_needs_no_classes() -> None:
    assert found("sam", (X, Y)) is Y


def test_a_method_that_needs_classes_gets_what_was_found_or_an_error() -> None:
    assert found("imbsam", (X, X)) is X
    with pytest.raises(DataError, match="no classes found"):
        found("imbsam", X)


@pytest.mark.parametrize("targets", [[0, 1], torch.tensor(0), None])
def test_targets_that_are_no_tensor_of_rows_are_named(targets: object) -> None:
    with pytest.raises(DataError, match="must be a tensor with one entry for each row"):
        found("imbsam", X, lambda batch: targets)
