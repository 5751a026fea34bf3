import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from imbsam.data.sources.arrow import arrow_table
from imbsam.errors import DataError


def column(values, **options):
    return arrow_table(pd.DataFrame({"c": pd.Series(values, **options)}))["c"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1.5, np.nan], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", None], pa.string()),
        (pd.array([1, None], "Int8"), pa.int8()),
        (pd.array([True, None], "boolean"), pa.bool_()),
        (pd.arrays.SparseArray([0, 0, 3]), pa.int64()),
        (
            pd.to_datetime(["2024-01-31"]).as_unit("ms").tz_localize("Europe/Berlin"),
            pa.timestamp("ms", "Europe/Berlin"),
        ),
        ([decimal.Decimal("1.5"), None], pa.decimal128(2, 1)),
        ([datetime.date(2024, 1, 31)], pa.date32()),
    ],
)
def test_a_column_keeps_its_type(values, kind):
    found = column(values)
    assert found.type == kind or (kind == pa.string() and pa.types.is_large_string(found.type))


def test_categories_are_a_dictionary():
    found = column(["b", "a", None], dtype="category")
    assert pa.types.is_dictionary(found.type)
    assert found.to_pylist() == ["b", "a", None]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, "a", None], ["1", "a", None]),
        ([1.0, "a"], ["1", "a"]),
        ([True, "a"], ["True", "a"]),
        ([True, 2], ["True", "2"]),
        ([datetime.date(2024, 1, 31), "a"], ["2024-01-31", "a"]),
    ],
)
def test_values_of_several_types_are_texts_of_a_type_of_their_own(values, texts):
    found = column(values, dtype=object)
    assert pa.types.is_dictionary(found.type)
    assert found.to_pylist() == texts


@pytest.mark.parametrize(
    "values", [[1, decimal.Decimal("2.5")], [2.5, decimal.Decimal(1), None], [10**30, 1], [np.float32(1), 2]]
)
def test_numbers_of_several_types_are_numbers(values):
    found = column(values, dtype=object)
    assert found.cast(pa.float64()).to_pylist() == [None if value is None else float(value) for value in values]


@pytest.mark.parametrize(
    ("values", "name"),
    [([1 + 2j], "complex"), ([{1}, 2], "set"), ([object()], "object"), ([[1], "a"], "list")],
)
def test_values_that_are_no_feature_are_named(values, name):
    with pytest.raises(DataError, match=rf"column 'c' holds {name} values, which cannot be a feature"):
        column(values)


def test_the_index_is_left_out_and_names_are_texts():
    frame = pd.DataFrame({0: [1], "x": [2]}, index=pd.Index(["row"], name="key"))
    assert arrow_table(frame).column_names == ["0", "x"]
