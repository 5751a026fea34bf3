import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbsam.data.sources.cells import Reader, meaning, texts_of, value_text
from imbsam.data.sources.kinds import ColumnType, UnfitError
from imbsam.data.sources.numbers import MISSING


def read(kind, column, *, missing=MISSING, decimal=".", **more):
    """Values, texts or None, and which are unreadable."""
    if isinstance(column, list):
        column = pa.array(column, pa.string())
    cells = Reader(missing, lambda: decimal).read(pa.chunked_array([column]), ColumnType("c", kind, **more))
    found = pd.Series(cells.values).astype(object)
    return [None if pd.isna(value) else value for value in found], cells.unreadable.tolist()


def readable(kind, column, **more):
    values, unreadable = read(kind, column, **more)
    assert not any(unreadable)
    return values


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (["007", "7", " a ", None, "NA", "1.0"], ["007", "7", " a ", None, None, "1.0"]),
        (pa.array([7, 8, None]), ["7", "8", None]),
        (pa.array([7.0, 8.5, None]), ["7", "8.5", None]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array(["a", "NA", None]).dictionary_encode(), ["a", None, None]),
        (pa.nulls(1), [None]),
        (pa.array([10**17 + 1]), ["100000000000000001"]),
    ],
)
def test_a_text_is_the_text_whatever_the_file_makes_of_it(column, texts):
    assert readable("text", column) == texts


def test_words_asked_for_are_missing_and_no_others():
    assert readable("text", ["NA", "x", ""], missing=("", "x")) == ["NA", None, None]
    assert readable("number", ["1", "-9", "-9.0"], missing=("", "-9")) == [1, None, None]
    assert readable("number", pa.array([1, -9]), missing=("", "-9")) == [1, None]
    assert read("number", ["1", "NA"], missing=("", "-9")) == ([1, None], [False, True])


@pytest.mark.parametrize(
    ("column", "decimal", "values"),
    [
        (["1", "2.5", None, "NA"], ".", [1, 2.5, None, None]),
        (["1", " 2 "], ".", [1, 2]),
        (["1,5", "1.234"], ",", [1.5, 1234]),
        (["1.234", "2.345"], ",", [1234, 2345]),
        (["1,234", "0.5"], ".", [1234, 0.5]),
        (pa.array([1, None]), ".", [1, None]),
        (pa.array([decimal.Decimal("2.5")]), ",", [2.5]),
        (pa.array(["1", "2"]).dictionary_encode(), ".", [1, 2]),
        (pa.array(["1"], pa.large_string()), ".", [1]),
    ],
)
def test_numbers_are_read_from_texts_and_types(column, decimal, values):
    assert readable("number", column, decimal=decimal) == values


def test_marks_of_the_training_are_missing_and_other_words_unreadable():
    assert read("number", ["1", "?", "-"], marks=("?",)) == ([1, None, None], [False, False, True])


def test_a_number_with_the_other_decimal_mark_is_refused():
    with pytest.raises(
        UnfitError, match=r"holds '2,5', but the decimal mark of this file is '\.'.*--decimal"
    ) as caught:
        read("number", ["1.5", "2,5", "x"])
    assert caught.value.place == 1


@pytest.mark.parametrize("word", ["True", "TRUE", "true", "t", "yes", "Y", "on", "1", "1.0", " true "])
def test_truth_is_written_in_many_ways(word):
    assert readable("boolean", [word]) == ["True"]


@pytest.mark.parametrize(
    "column", [pa.array([True, False, None]), pa.array([1, 0, None]), pa.array([1.0, 0.0, np.nan])]
)
def test_truth_has_many_types(column):
    assert readable("boolean", column) == ["True", "False", None]


def test_what_is_neither_true_nor_false_is_unreadable():
    assert read("boolean", ["no", "maybe", None]) == (["False", None, None], [False, True, False])
    assert read("boolean", pa.array([0, 2])) == (["False", None], [False, True])


def test_true_and_false_are_numbers_where_training_had_0_and_1_alone():
    assert readable("number", ["TRUE", "0", "no"], truths=True) == [1, 0, 0]
    assert readable("number", pa.array([True, False]), truths=True) == [1, 0]
    assert read("number", ["TRUE", "3"]) == ([None, 3], [True, False])
    with pytest.raises(UnfitError, match="was a number in training, and holds bool values"):
        read("number", pa.array([True]))


def test_dates_of_texts_and_types_are_the_same_days():
    expected = [1.0, 2.5]
    moments = [datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 3, 12)]
    assert readable("date", ["1970-01-02", "1970-01-03 12:00"]) == expected
    for unit in ("s", "ms", "us", "ns"):
        assert readable("date", pa.array(moments, pa.timestamp(unit))) == expected
    assert readable("date", pa.array([moments[0].date()])) == [1.0]


def test_dates_may_be_written_as_in_training_or_by_iso():
    form = "%d/%m/%Y"
    assert read("date", ["02/01/1970", "1970-01-02", "13/13/1970"], form=form) == ([1, 1, None], [False, False, True])


@pytest.mark.parametrize("word", ["20240105", "1706659200", "45321.5"])
def test_a_number_is_no_date(word):
    with pytest.raises(UnfitError, match=rf"holds '{word}'.*dates in training") as caught:
        read("date", ["2024-01-05", word])
    assert caught.value.place == 1


@pytest.mark.parametrize(
    ("kind", "column", "found"),
    [
        ("date", pa.array([20240105]), "int64"),
        ("date", pa.array([1.7e9]), "double"),
        ("number", pa.array([datetime.date(2024, 1, 5)]), "date32"),
        ("number", pa.array([[1]]), "list"),
        ("boolean", pa.array([datetime.date(2024, 1, 5)]), "date32"),
        ("duration", pa.array([1]), "int64"),
    ],
)
def test_a_column_of_another_type_is_refused(kind, column, found):
    with pytest.raises(UnfitError, match=rf"in training, and holds {found}.* values here"):
        read(kind, column)


ZONED = ["2024-01-31T10:00Z"]
LOCAL = ["2024-01-31T10:00"]


@pytest.mark.parametrize(
    ("zoned", "column", "message"),
    [
        (True, LOCAL, "no time zone here, and had one in training"),
        (False, ZONED, "a time zone here, and had none in training"),
        (False, ZONED + LOCAL, "with a time zone and others without"),
        (True, pa.array([datetime.datetime(2024, 1, 31)]), "no time zone here"),
        (False, pa.array([datetime.datetime(2024, 1, 31)], pa.timestamp("s", "UTC")), "a time zone here"),
    ],
)
def test_a_time_zone_is_had_always_or_never(zoned, column, message):
    with pytest.raises(UnfitError, match=message):
        read("date", column, zoned=zoned)


def test_durations_of_texts_and_types_are_the_same_days():
    assert readable("duration", ["1 days 12:00:00", None]) == [1.5, None]
    assert readable("duration", pa.array([datetime.timedelta(days=1, hours=12), None])) == [1.5, None]
    assert read("duration", ["1 days", "long"]) == ([1, None], [False, True])


@settings(max_examples=30)
@given(
    st.lists(st.one_of(st.none(), st.sampled_from(["1", "2.5", "x", "NA", "?", "007", "true", "2024-01-05", "1 days"])))
)
def test_a_cell_means_the_same_whatever_stands_beside_it(texts):
    for kind in ("text", "number", "boolean"):
        values, unreadable = read(kind, texts)
        alone = [read(kind, [text]) for text in texts]
        assert values == [value for (value,), _ in alone]
        assert unreadable == [lost for _, (lost,) in alone]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1.0", "1"),
        ("-1.00", "-1"),
        ("0", "0"),
        ("TRUE", "true"),
        ("False", "false"),
        ("01", "01"),
        ("1E0", "1E0"),
        ("1.5", "1.5"),
        ("+1", "+1"),
        ("Yes", "Yes"),
        ("1.", "1."),
    ],
)
def test_a_label_means_a_whole_number_truth_or_itself(name, said):
    assert meaning(name) == said


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (1.5, "1.5"), (1, "1"), (True, "True"), ("1.0", "1.0")])
def test_a_whole_number_is_called_so(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array(["01", "NA", None, " 1 "]), ["01", None, None, " 1 "]),
        (pa.array([1.0, np.nan, None, 2.5]), ["1", None, None, "2.5"]),
        (pa.array([123456789012345678, None]), ["123456789012345678", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([], pa.string()), []),
        (pa.nulls(2), [None, None]),
    ],
)
def test_labels_are_the_texts_of_the_file(array, texts):
    assert texts_of(pa.chunked_array([array]), MISSING) == texts
