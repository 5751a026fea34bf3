import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbsam.data.sources.numbers import MARKS, SLICE, decimal_mark, is_number, numbers, plain_numbers


def chunked(*texts):
    return pa.chunked_array([pa.array(texts, pa.string())])


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("12", 12, 12),
        ("-3", -3, -3),
        ("+3", 3, 3),
        ("1.5", 1.5, None),
        ("1,5", None, 1.5),
        (".5", 0.5, None),
        (",5", None, 0.5),
        ("5.", 5, None),
        ("1,234", 1234, 1.234),
        ("1.234", 1.234, 1234),
        ("0,234", None, 0.234),
        ("1,234.5", 1234.5, None),
        ("1.234,5", None, 1234.5),
        ("1,234,567", 1234567, None),
        ("12,34,567", None, None),
        ("1.2.3", None, None),
        ("1e3", 1000, 1000),
        ("1.5E-2", 0.015, None),
        ("2,5e+1", None, 25),
        ("inf", math.inf, math.inf),
        ("-Infinity", -math.inf, -math.inf),
        ("two", None, None),
        ("", None, None),
        ("e5", None, None),
        ("0x10", None, None),
        ("1_000", None, None),
        ("1 000", None, None),
        ("٣", None, None),
        ("-", None, None),
        (".", None, None),
    ],
)
def test_a_text_is_a_number_by_the_decimal_mark(text, point, comma):
    for mark, expected in ((".", point), (",", comma)):
        values, unreadable = numbers(chunked(text), mark)
        assert unreadable.tolist() == [expected is None]
        np.testing.assert_array_equal(values, [np.nan if expected is None else expected])
    assert is_number(pa.array([text])).tolist() == [point is not None or comma is not None]


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_what_python_writes_comes_back_to_the_last_bit(values):
    texts = [repr(value) for value in values]
    for mark, written in ((".", texts), (",", [text.replace(".", ",") for text in texts])):
        found, unreadable = numbers(chunked(*written), mark)
        assert not unreadable.any()
        assert found.tolist() == values
    assert plain_numbers(chunked(*texts)).tolist() == values


@given(st.integers(-(10**15), 10**15))
def test_thousands_are_set_off_by_the_other_mark(value):
    grouped = f"{value:,}"
    assert numbers(chunked(grouped), ".")[0].tolist() == [value]
    assert numbers(chunked(grouped.replace(",", ".")), ",")[0].tolist() == [value]


def test_a_missing_number_is_not_unreadable():
    values, unreadable = numbers(chunked("1", None, "x"), ".")
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])
    assert unreadable.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], (None, False)),
        (["12", "7"], (None, False)),
        (["1,234"], (None, True)),
        (["1.234"], (None, False)),
        (["0.5", "1,234"], (".", False)),
        (["1,234", "0,5"], (",", False)),
        (["1,234", "1,234,567"], (".", False)),
        (["1.234.567"], (",", False)),
        (["x,y", "a.b", "7"], (None, False)),
        ([" 0,5 "], (",", False)),
        ([None, "0,5"], (",", False)),
    ],
)
def test_the_decimal_mark_is_found_by_the_numbers_that_have_one_reading(texts, expected):
    assert decimal_mark([chunked(*texts)]) == expected


def test_the_decimal_mark_is_found_in_any_row_of_any_column_and_no_further_one_is_read():
    read = []

    def columns():
        for place, column in enumerate((["1,234"] * (SLICE + 1), ["1"] * SLICE + ["0,5"], ["0.5"])):
            read.append(place)
            yield chunked(*column)

    assert decimal_mark(columns()) == (",", False)
    assert read == [0, 1]


@pytest.mark.parametrize("text", ["1,5", "1,234", "two", " ", "?"])
def test_other_texts_than_plain_numbers_make_a_column_one_of_texts(text):
    assert plain_numbers(chunked("1", text)) is None


def test_plain_numbers_are_nan_where_null():
    np.testing.assert_array_equal(plain_numbers(chunked("1", None, "-2.5")), [1, np.nan, -2.5])


def test_no_mark_for_a_missing_number_is_a_number():
    assert not is_number(pa.array(sorted(MARKS))).any()
    assert {mark.lower() for mark in MARKS} == MARKS
