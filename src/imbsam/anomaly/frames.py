"""Data frames with columns of several types, as the rows of a detector."""

import warnings
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from imbsam.data.columns import MOST_CATEGORIES, Columns, Findings, encoded, fit_columns, is_constant
from imbsam.data.sources.arrow import arrow_table, as_pandas
from imbsam.data.sources.kinds import ColumnType
from imbsam.data.sources.schema import Schema, frame_reading, learn
from imbsam.errors import DataError, DataWarning

LARGEST_CODES = 2 * 2**30
"""Largest size in bytes of the one-hot columns of text columns; beyond it the rarer texts share a column."""


def pandas_frame(rows: object) -> pd.DataFrame | None:
    """Convert a data frame of any library to pandas, with columns named by texts; ``None`` for anything else."""
    frame = as_pandas(rows)
    return frame.set_axis([str(name) for name in frame.columns], axis=1) if isinstance(frame, pd.DataFrame) else None


def mixed_frame(rows: object) -> pd.DataFrame | None:
    """Return a data frame with a column that is neither numbers nor truth values; ``None`` for anything else."""
    frame = pandas_frame(rows)
    if frame is None or all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes):
        return None
    return frame


def learnt_columns(train: pd.DataFrame) -> Columns:
    """Learn the encoding of the columns of a data frame; empty columns are left out, with a warning.

    Raises:
        DataError: If a column has values that cannot be a feature, or every column is empty.
    """
    empty = [str(name) for name in train.columns[train.isna().all()]]
    if empty:
        _warn([f"columns without any value in the training rows were left out: {empty}."])
        train = train.drop(columns=empty)
    if not len(train.columns):
        raise DataError("every column of X is empty.")
    table = arrow_table(train)
    schema, notes = learn(table, is_file=False)
    reading = frame_reading(schema, table)
    frame = reading.frame(table, train.index)
    useless = [str(name) for name in frame if is_constant(frame[name])]
    if useless:
        _warn([f"constant columns carry no information and are ignored, in new rows too: {', '.join(useless)}."])
        frame, schema = frame.drop(columns=useless), schema.without(useless)
    if not len(frame.columns):
        raise DataError("every column of X is constant.")
    columns, said = fit_columns(frame, schema, train.index, most=most_categories(frame))
    _warn([*notes, *reading.notes(), *said])
    return columns


def frame_rows(frame: pd.DataFrame, columns: Columns) -> Tensor:
    """Encode the rows of a data frame, float32 ``(N, F)``; cells that cannot be read are missing, with a warning.

    Raises:
        DataError: If a column is missing, or of another type than in training.
    """
    if absent := [name for name in columns.schema.names if name not in frame.columns]:
        raise DataError(f"X lacks the columns {absent}, which training had.")
    table = arrow_table(frame[columns.schema.names])
    reading = frame_reading(columns.schema, table)
    read = reading.frame(table, frame.index)
    rows = one_hot_rows(read, columns, frame.index, Findings())
    _warn(reading.notes())
    return rows


def numbers_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a data frame as numbers, if training had only numbers.

    Raises:
        DataError: If a column has dates or other values that are not numbers.
    """
    schema = Schema(tuple(ColumnType(str(name), "number", truths=True) for name in frame.columns))
    table = arrow_table(frame)
    reading = frame_reading(schema, table)
    read = reading.frame(table, frame.index)
    _warn(reading.notes())
    return read


def most_categories(frame: pd.DataFrame) -> int:
    """Return how many texts of a column get a one-hot column of their own."""
    texts = sum(isinstance(frame[name].dtype, pd.CategoricalDtype) for name in frame.columns)
    return max(16, min(MOST_CATEGORIES, LARGEST_CODES // (4 * len(frame) * max(1, texts))))


def one_hot_rows(frame: pd.DataFrame, columns: Columns, rows: Sequence[object], found: Findings) -> Tensor:
    """Encode rows as numbers with one-hot columns, since a code says which category, not how much.

    Args:
        frame: Frame read by the schema of ``columns``.
        columns: Encoding from training.
        rows: Names of the rows in messages, length N.
        found: Counter for values that training did not have.

    Returns:
        Rows, float32, shape ``(N, F)``.
    """
    values = encoded(frame, columns, rows, found)
    spec = columns.spec
    codes = [
        one_hot(values[:, spec.numeric + place].long(), size).to(values)
        for place, size in enumerate(spec.cardinalities)
    ]
    return torch.cat([values[:, : spec.numeric], *codes], dim=1)


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=5)
