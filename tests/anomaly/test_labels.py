import numpy as np
import pandas as pd
import pytest

from imbsam.anomaly.labels import kinds_of
from imbsam.errors import DataError


@pytest.mark.parametrize(
    "y",
    [
        [1, 0, -1],
        np.array([1, 0, -1], dtype=np.int8),
        np.array([1.0, 0.0, -1.0]),
        np.array([[1], [0], [-1]]),
        np.array([1, 0, -1], dtype=object),
        pd.Series([1, 0, -1], index=[5, 6, 7]),
    ],
)
def test_one_is_an_anomaly_zero_unlabelled_and_minus_one_normal(y):
    assert kinds_of(y, 3).tolist() == [1, 0, 2]


def test_true_marks_an_anomaly():
    assert kinds_of(np.array([True, False]), 2).tolist() == [1, 0]


def test_no_labels_leave_every_row_unlabelled():
    assert kinds_of(None, 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 2], r"y holds 2, first in row 2\. Labels are 1 for a known anomaly"),
        ([0, 0.5, 1, 0], r"y holds 0\.5, first in row 1"),
        ([0, 0, 1, np.nan], "y holds nan, first in row 3"),
        (list(range(4, 8)), "y holds 4, 5, 6, 7, first in row 0"),
        (["bad", "good", "good", "good"], "Unknown label type: y holds bad, good"),
        ([0, 1], r"a label for each of the 4 rows; got shape \(2,\)"),
        ([[0, 1]] * 4, r"got shape \(4, 2\)"),
    ],
)
def test_other_labels_are_refused_with_their_place(y, message):
    with pytest.raises(DataError, match=message):
        kinds_of(y, 4)


def test_other_numbers_may_be_taken_for_unlabelled():
    assert kinds_of([1, 2, np.nan, -1, 0], 5, others="unlabelled").tolist() == [1, 0, 0, 2, 0]


def test_words_are_refused_even_then():
    with pytest.raises(DataError, match="Unknown label type"):
        kinds_of(["a", "b"], 2, others="unlabelled")
