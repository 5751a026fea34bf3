"""Checks of X and y as in scikit-learn, and their conversion to the rows that a model reads."""

import warnings
from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor

from imbsam.data.columns import Columns, Findings, encoded, fit_columns
from imbsam.data.sources.arrow import arrow_table, as_pandas
from imbsam.data.sources.kinds import ColumnType
from imbsam.data.sources.schema import Schema, frame_reading, learn
from imbsam.errors import DataError, DataWarning, OptionError

CategoricalFeatures = str | Sequence[str | int | bool]


def checked_training(
    estimator: BaseEstimator, X: object, y: object, *, texts: bool, reset: bool
) -> tuple[pd.DataFrame, "np.ndarray"]:
    """Check training data, and store the number and names of the features on the estimator.

    Args:
        estimator: Estimator that is trained.
        X: Array-like ``(N, F)`` or data frame.
        y: Array-like ``(N,)``.
        texts: Whether an array may contain texts, because some of its columns are categories.
        reset: Store the features again; otherwise they must be those stored before.

    Returns:
        The features, with columns named by texts, and the labels.

    Raises:
        ValueError: If the data cannot be used; the message is scikit-learn's.
        TypeError: If X is sparse.
    """
    X = as_pandas(X)
    if _is_plain(X, texts):
        values, labels = validate_data(estimator, X, y, reset=reset, **_PLAIN)
        frame = pd.DataFrame(values)
    else:
        frame = _mixed(estimator, *validate_data(estimator, X, y, reset=reset, skip_check_array=True)[:1])
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_consistent_length(frame, labels)
    check_classification_targets(labels)
    return _named(estimator, frame), labels


def checked_rows(estimator: BaseEstimator, X: object, *, texts: bool) -> pd.DataFrame:
    """Check rows to be scored against the features of training.

    Args:
        estimator: Fitted estimator.
        X: Array-like ``(N, F)`` or data frame.
        texts: Whether an array may contain texts.

    Returns:
        The features, with columns named as in training.

    Raises:
        ValueError: If the rows cannot be used or have other columns; the message is scikit-learn's.
        TypeError: If X is sparse.
    """
    X = as_pandas(X)
    if _is_plain(X, texts):
        frame = pd.DataFrame(validate_data(estimator, X, reset=False, **_PLAIN))
    else:
        frame = _mixed(estimator, validate_data(estimator, X, reset=False, skip_check_array=True))
    return _named(estimator, frame)


def learnt_columns(train: pd.DataFrame, categorical: CategoricalFeatures) -> Columns:
    """Learn the encoding of the columns; leave out empty ones, with a :class:`~imbsam.errors.DataWarning`.

    Args:
        train: Training rows.
        categorical: ``"auto"`` for columns that contain neither numbers nor dates; or names, positions, or a mask.

    Returns:
        Encoding of the columns.

    Raises:
        DataError: If a column has values that cannot be a feature, or every column is empty.
        OptionError: If ``categorical`` names a column that does not exist.
    """
    chosen = _chosen(categorical, [str(name) for name in train.columns])
    empty = [str(name) for name in train.columns[train.isna().all()]]
    if empty:
        warnings.warn(
            f"columns without any value in the training rows were left out: {empty}.", DataWarning, stacklevel=3
        )
        train = train.drop(columns=empty)
    if not len(train.columns):
        raise DataError("every column of X is empty.")
    table = arrow_table(train)
    schema, _ = learn(table, is_file=False, texts=chosen or ())
    if chosen is not None:
        schema = Schema(tuple(_numeric(kind, chosen) for kind in schema.columns))
    reading = frame_reading(schema, table)
    frame = reading.frame(table, train.index)
    _warn(reading.notes())
    columns, notes = fit_columns(frame, schema, train.index)
    _warn(notes)
    return columns


def _numeric(kind: ColumnType, chosen: Collection[str]) -> ColumnType:
    """Return the type of a column that the user did not name among the categories."""
    return ColumnType(kind.name, "number") if kind.kind in ("text", "boolean") and kind.name not in chosen else kind


def encoded_rows(frame: pd.DataFrame, columns: Columns) -> Tensor:
    """Encode rows as features, float32 ``(N, F)``.

    Cells that do not have the type of their column count as missing, and a :class:`~imbsam.errors.DataWarning` counts
    them by column. Values that training did not have are filled in without a warning: missing numbers by the median,
    and unknown categories by a common code.

    Raises:
        DataError: If a column is of another type than in training.
    """
    if not len(frame):
        return torch.empty(0, columns.spec.numeric + len(columns.spec.cardinalities))
    table = arrow_table(frame[columns.schema.names])
    reading = frame_reading(columns.schema, table)
    read = reading.frame(table, frame.index)
    values = encoded(read, columns, frame.index, Findings())
    _warn(reading.notes())
    return values


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=4)


_PLAIN = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}


def _is_plain(X: object, texts: bool) -> bool:
    """Return whether X is all numbers, to be checked by scikit-learn; long codes would change as float64."""
    if isinstance(X, pd.DataFrame):
        is_number, is_bool = pd.api.types.is_numeric_dtype, pd.api.types.is_bool_dtype
        return not texts and all(is_number(dtype) and not is_bool(dtype) for dtype in X.dtypes)
    is_sparse = hasattr(X, "toarray")
    return not texts or is_sparse or np.asarray(X).dtype.kind not in "OUSiu"


def _mixed(estimator: BaseEstimator, X: object) -> pd.DataFrame:
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X, dtype=object)).infer_objects()
    if frame.empty:
        what = f"{len(frame)} sample(s) and {len(frame.columns)} feature(s)"
        raise DataError(f"Found array with {what} while a minimum of 1 is required by {type(estimator).__name__}.")
    return frame


def _named(estimator: BaseEstimator, frame: pd.DataFrame) -> pd.DataFrame:
    names = getattr(estimator, "feature_names_in_", None)
    return frame.set_axis([str(name) for name in (range(len(frame.columns)) if names is None else names)], axis=1)


def _chosen(categorical: CategoricalFeatures, names: Sequence[str]) -> set[str] | None:
    """Return the names of the categorical columns; None if the columns' types decide."""
    if isinstance(categorical, str):
        return None
    entries = list(categorical)
    if entries and all(isinstance(entry, bool | np.bool_) for entry in entries):
        if len(entries) != len(names):
            raise OptionError(f"categorical_features is a mask of {len(entries)} values for {len(names)} columns.")
        return {name for name, entry in zip(names, entries, strict=True) if entry}
    chosen = set()
    for entry in entries:
        is_place = isinstance(entry, int | np.integer)
        if (is_place and not 0 <= int(entry) < len(names)) or (not is_place and entry not in names):
            raise OptionError(
                f"categorical_features: there is no column {entry!r}; the {len(names)} columns are {', '.join(names)}."
            )
        chosen.add(names[int(entry)] if is_place else cast(str, entry))
    return chosen
