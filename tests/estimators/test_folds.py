"""Folds in which every class is spread, however rare it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbsam.estimators import folds as folds_module
from imbsam.estimators.folds import folds_of

COUNTS = st.lists(st.integers(1, 30), min_size=2, max_size=8)


def classes_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@settings(deadline=None)
@given(COUNTS, st.integers(2, 9), st.integers(0, 99))
def test_every_row_is_held_out_once_unless_its_class_has_no_other(counts, number, seed):
    targets = classes_of(counts, seed)
    folds = folds_of(targets, number, seed)
    held = np.concatenate([fold.held for fold in folds])
    lonely = np.array(counts)[targets] == 1
    np.testing.assert_array_equal(np.sort(held), np.flatnonzero(~lonely))
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.held])), np.arange(len(targets)))
        assert set(targets[fold.train]) == set(targets)


@settings(deadline=None)
@given(COUNTS, st.integers(2, 5))
def test_each_class_is_spread_evenly(counts, number):
    targets = classes_of([count + number for count in counts])
    folds = folds_of(targets, number, 0)
    held = np.array([np.bincount(targets[fold.held], minlength=len(counts)) for fold in folds])
    assert (held.max(axis=0) - held.min(axis=0)).max() <= 1
    assert held.sum(axis=1).max() - held.sum(axis=1).min() <= 1


def test_the_seed_decides_which_rows():
    targets = classes_of([20, 30])
    first, again, other = (folds_of(targets, 5, seed)[0].held for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_of_many_rows_one_part_is_held_out(monkeypatch):
    monkeypatch.setattr(folds_module, "MANY_ROWS", 999)
    monkeypatch.setattr(folds_module, "HELD_OUT", 100)
    targets = classes_of([800, 150, 47, 3])
    (fold,) = folds_of(targets, 5, 0)
    # A tenth of each class, of rare ones at least ten rows, but never more than a fifth.
    assert np.bincount(targets[fold.held], minlength=4).tolist() == [80, 15, 9, 0]
    assert len(fold.train) + len(fold.held) == len(targets)


@pytest.mark.parametrize("counts", [[1, 1, 1]])
def test_where_every_class_has_one_row_nothing_is_held_out(counts):
    (fold,) = folds_of(classes_of(counts), 5, 0)
    assert len(fold.train) == 3
    assert not len(fold.held)
