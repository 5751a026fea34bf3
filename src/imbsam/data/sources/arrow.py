"""Conversion of data frames to Arrow tables, including columns of Python objects."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa

from imbsam.data.sources.cells import value_text
from imbsam.errors import DataError

PLAIN = (str, bool, int, float, np.generic, decimal.Decimal, datetime.date)
"""Types of values that a feature may have."""


def as_pandas(rows: object) -> object:
    """Convert data frames of other libraries to pandas; return everything else unchanged.

    Raises:
        DataError: If two columns of a frame have one name.
    """
    if not isinstance(rows, pd.DataFrame) and hasattr(rows, "to_pandas"):
        rows = rows.to_pandas()
    if isinstance(rows, pd.DataFrame) and not rows.columns.is_unique:
        twice = list(rows.columns[rows.columns.duplicated()])
        raise DataError(f"several columns of X are called {twice}. Rename them.")
    return rows


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Convert a data frame to an Arrow table, without its index.

    Args:
        frame: Data frame whose column names are distinct texts.

    Returns:
        Columns of one type each; a column of several types, such as 1 and "a", becomes text of a special type.

    Raises:
        DataError: If a column holds values that cannot be a feature.
    """
    return pa.table({str(name): _column(frame[name]) for name in frame.columns})


def _column(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.SparseDtype):
        column = pd.Series(np.asarray(column), name=column.name)
    try:
        _check_values(column)
        found = pa.Array.from_pandas(column)
        if column.dtype == object and pa.types.is_timestamp(found.type):
            _check_zones(column)
        return found
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    if column.dtype.kind == "c":
        raise DataError(f"column {column.name!r} holds complex values, which cannot be a feature. Leave it out.")
    gone = column.isna().to_numpy()
    values = [None if missing else value for value, missing in zip(column.tolist(), gone, strict=True)]
    odd = next((value for value in values if value is not None and not isinstance(value, PLAIN)), None)
    if odd is not None:
        raise DataError(
            f"column {column.name!r} holds {type(odd).__name__} values, which cannot be a feature. Leave it out."
        )
    if all(
        value is None or (isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool))
        for value in values
    ):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else value_text(value) for value in values], pa.string()).dictionary_encode()


def _check_zones(dates: pd.Series) -> None:
    """Refuse a column in which only some dates have a time zone: Arrow would take the others for universal time."""
    if (
        len({value.tzinfo is None for value in dates if isinstance(value, datetime.datetime) and not pd.isna(value)})
        > 1
    ):
        raise DataError(
            f"column {dates.name!r} has dates with a time zone and others without. Give all of them one, or none."
        )


def _check_values(column: pd.Series) -> None:
    """Refuse a column that mixes True with numbers such as 0.5: Arrow would take True for 1.0."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if values.dtype == object and len({isinstance(v, bool | np.bool_) for v in values if not _is_missing(v)}) > 1:
        raise pa.ArrowTypeError("true and false among other values")


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))
