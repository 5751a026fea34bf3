"""One table in the forms that classifiers of different kinds read."""

import numpy as np
import pandas as pd
import pytest

from imbsam.estimators import views
from imbsam.estimators.tables import encoded_rows, learnt_columns
from imbsam.estimators.views import Reading


def reading_of(frame):
    columns = learnt_columns(frame, "auto")
    return Reading.learnt(encoded_rows(frame, columns).numpy(), columns)


def test_numbers_alone_are_the_same_in_every_view():
    frame = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, 1.0, 0.0]})
    _, rows = reading_of(frame)
    assert rows.of("one-hot") is rows.of("codes")
    np.testing.assert_array_equal(rows.of("frame").to_numpy(), rows.of("codes"))
    assert rows.of("codes").dtype == np.float32
    assert rows.of("codes").shape == (3, 3)  # a, b, and whether a is missing


def test_frequent_categories_have_a_column_each_and_rare_ones_one_together():
    words = ["x"] * 8 + ["y"] * 6 + ["p", "q"]
    frame = pd.DataFrame({"word": words, "size": np.arange(16.0)})
    _, rows = reading_of(frame)
    matrix = rows.of("one-hot")
    assert matrix.shape == (16, 1 + 3)
    np.testing.assert_array_equal(matrix[:, 1:].sum(axis=1), np.ones(16))
    assert sorted(matrix[:, 1:].sum(axis=0)) == [2, 6, 8]
    np.testing.assert_array_equal(matrix[-1, 1:], matrix[-2, 1:])


def test_a_category_that_training_did_not_have_stands_with_the_rare_ones():
    frame = pd.DataFrame({"word": ["x"] * 8 + ["y"] * 6 + ["p"], "size": np.arange(15.0)})
    reading, rows = reading_of(frame)
    new = reading.rows(pd.DataFrame({"word": ["new"], "size": [14.0]}))
    np.testing.assert_array_equal(new.of("one-hot")[0], rows.of("one-hot")[-1])


@pytest.mark.parametrize("budget", [2**29, 4 * 60 * 5])
def test_one_hot_columns_keep_to_their_memory(monkeypatch, budget):
    monkeypatch.setattr(views, "ONE_HOT_BYTES", budget)
    frame = pd.DataFrame({"word": np.repeat([f"w{place}" for place in range(10)], 6), "size": np.arange(60.0)})
    width = reading_of(frame)[1].of("one-hot").shape[1] - 1
    assert width == (10 if budget == 2**29 else 5)


def test_the_frame_has_categories_where_codes_are():
    frame = pd.DataFrame({"word": ["b", "a", "b", None], "size": np.arange(4.0)})
    reading, rows = reading_of(frame)
    words = rows.of("frame").iloc[:, -1]
    assert isinstance(words.dtype, pd.CategoricalDtype)
    assert words[0] == words[2]
    assert words.nunique() == 3
    assert reading.cardinalities == (0, 4)  # not seen, a, b, missing
    again = reading.rows(frame.iloc[[3]]).of("frame").iloc[0, -1]
    assert again == words[3]


def test_some_rows_are_read_as_among_all():
    frame = pd.DataFrame({"word": ["x"] * 8 + ["y"] * 6 + ["p"], "size": np.arange(15.0)})
    _, rows = reading_of(frame)
    index = np.array([14, 0, 9])
    for view in ("codes", "one-hot"):
        np.testing.assert_array_equal(rows[index].of(view), rows.of(view)[index])
