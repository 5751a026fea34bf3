"""Table columns to numbers: standardised numeric features, missing-value indicators, category codes.

All statistics come from the training rows alone.
"""

import datetime
import decimal
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict, cast

import numpy as np
import pandas as pd
import torch

from imbsam.data.dataset import Samples, TensorSamples
from imbsam.data.sources.raw import Part, PartName, listed
from imbsam.data.sources.tables import value_text
from imbsam.errors import DataError
from imbsam.inputs import TableSpec

UNSEEN = 0
"""Code of a category that training did not have."""

MANY_CATEGORIES = 50
"""A text column with more different values than this, and than half the rows, is pointed out."""

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].+)?")

SAVED_INDEX = "Unnamed: 0"
"""What pandas calls a row index that was saved with a table."""


class NumericColumn(TypedDict):
    """How one numeric column is read: filled by ``median``, then ``(value - mean) / std``."""

    name: str
    date: bool
    median: float
    mean: float
    std: float
    indicator: bool


class CategoricalColumn(TypedDict):
    """How one categorical column is read: code 0 unseen, then ``values`` in order, then missing if training had it."""

    name: str
    values: list[str]
    missing: bool


@dataclass(frozen=True)
class Columns:
    """How every column is read; features are in the order numeric, indicators, categorical."""

    numeric: list[NumericColumn]
    categorical: list[CategoricalColumn]

    @classmethod
    def of(cls, preprocess: Mapping[str, object]) -> "Columns":
        """Those of a table read before.

        Args:
            preprocess: As :func:`table_parts` gave it, also after a way through JSON.
        """
        return cls(
            cast(list[NumericColumn], preprocess["numeric"]), cast(list[CategoricalColumn], preprocess["categorical"])
        )

    @property
    def spec(self) -> TableSpec:
        """What the model gets to see."""
        indicators = sum(column["indicator"] for column in self.numeric)
        codes = tuple(1 + len(column["values"]) + column["missing"] for column in self.categorical)
        return TableSpec(len(self.numeric) + indicators, codes)

    @property
    def names(self) -> list[str]:
        """The columns that further data must have."""
        return [column["name"] for column in self.numeric] + [column["name"] for column in self.categorical]


@dataclass(frozen=True)
class TableParts:
    """The parts of a table, ready."""

    samples: dict[PartName, Samples]
    spec: TableSpec
    preprocess: Mapping[str, object]
    notes: tuple[str, ...]


def table_parts(parts: Mapping[PartName, Part], *, ignore: Sequence[str], whole: pd.DataFrame) -> TableParts:
    """Encode the parts of a table.

    Args:
        parts: Content is a frame of features; ``train`` is among them.
        ignore: Columns to leave out.
        whole: The training rows before any were held out, in which a column must vary to be of use.

    Returns:
        Samples (float32 rows), spec, and what is needed to read further rows the same way.

    Raises:
        DataError: If a column cannot be used: constant, empty, infinite, or of a kind that is no feature.
    """
    unknown = [name for name in ignore if name not in whole.columns]
    if unknown:
        raise DataError(
            f"--ignore names {listed(unknown)}, but the feature columns are {listed(list(whole.columns), 40)}."
        )
    whole = whole.drop(columns=list(ignore))
    frames = {name: part.frame.drop(columns=list(ignore)) for name, part in parts.items()}
    _check_columns(whole)
    numeric = numeric_columns(whole)
    notes: list[str] = [f"columns ignored: {listed(list(ignore))}."] if ignore else []
    train = frames["train"]
    columns = fit_columns(train, numeric, parts["train"].names)
    notes += notes_on(columns, train)
    samples: dict[PartName, Samples] = {}
    for name, part in parts.items():
        values, _ = encoded(frames[name], columns, part.names)
        samples[name] = TensorSamples(values, part.targets, part.names)
    preprocess = {"kind": "table", "spec": asdict(columns.spec), "ignore": list(ignore), **asdict(columns)}
    return TableParts(samples, columns.spec, preprocess, tuple(notes))


def further_rows(part: Part, preprocess: Mapping[str, object]) -> tuple[Samples, tuple[str, ...]]:
    """Encode further rows as those of a table were encoded.

    Args:
        part: Content is a frame of features.
        preprocess: As :func:`table_parts` gave it.

    Returns:
        Samples and notes.

    Raises:
        DataError: If a column is missing, or holds a value that cannot be read.
    """
    columns = Columns.of(preprocess)
    frame = part.frame
    missing = [name for name in columns.names if name not in frame.columns]
    if missing:
        raise DataError(f"the table lacks the columns {listed(missing)}, which training had.")
    known = {*columns.names, *cast(list[str], preprocess["ignore"])}
    extra = [str(name) for name in frame.columns if name not in known]
    notes = [f"columns that training had not were ignored: {listed(extra)}."] if extra else []
    values, filled = encoded(frame, columns, part.names)
    return TensorSamples(values, part.targets, part.names), (*notes, *filled)


def numeric_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that are read as numbers: numbers, dates and durations. The others are categories."""
    return [str(name) for name in frame.columns if _is_numeric(frame[name])]


def fit_columns(train: pd.DataFrame, numeric: Collection[str], rows: Sequence[object]) -> Columns:
    """Learn how every column is read.

    Args:
        train: The training rows; column names are different texts.
        numeric: Columns to read as numbers; the others are categories.
        rows: What each row is called in messages, length N.

    Returns:
        The columns, numeric and categorical, each in the frame's order.

    Raises:
        DataError: If a numeric column is empty, infinite, or holds what is no number.
    """
    names = [str(name) for name in train.columns]
    return Columns(
        [_fit_numeric(train, name, rows) for name in names if name in numeric],
        [_fit_categorical(train[name]) for name in names if name not in numeric],
    )


def _check_columns(frame: pd.DataFrame) -> None:
    if not len(frame.columns):
        raise DataError("the table has no feature column left.")
    for name in frame.columns:
        odd = odd_value(frame[name])
        if odd is not None:
            raise DataError(
                f"column {name!r} holds {odd} values, which are no feature. Leave it out: --ignore {shlex.quote(name)}."
            )
    empty = [name for name in frame.columns if frame[name].isna().all()]
    constant = [name for name in frame.columns if name not in empty and frame[name].nunique(dropna=False) == 1]
    if empty or constant:
        what = [f"empty in every row: {listed(empty, 40)}"] * bool(empty)
        what += [f"the same in every row: {listed(constant, 40)}"] * bool(constant)
        raise DataError(
            f"columns that tell nothing, {'; '.join(what)}. Leave them out: --ignore {shlex.join(empty + constant)}."
        )


def odd_value(column: pd.Series) -> str | None:
    """The name of a type that is neither a number, a text, a truth value nor a date."""
    if column.dtype.kind == "c":
        return "complex"
    if column.dtype != object:
        return None
    plain = (str, bool, int, float, np.generic, decimal.Decimal, datetime.date)
    return next((type(value).__name__ for value in column.dropna() if not isinstance(value, plain)), None)


def _is_date(column: pd.Series) -> bool:
    """Whether the column holds dates: typed as such, or every text in it an ISO date, as in a CSV file."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    if pd.api.types.is_numeric_dtype(column):
        return False
    values = column.dropna().tolist()
    if not values or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if all(isinstance(value, datetime.date) for value in values):
        return True
    if not all(isinstance(value, str) and ISO_DATE.fullmatch(value) for value in values):
        return False
    return bool(_dates(pd.Series(values)).notna().all())


def _dates(column: pd.Series) -> pd.Series:
    text = any(isinstance(value, str) for value in column.dropna().head(1))
    return pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601" if text else None)


def _is_numeric(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return False
    if column.dtype == object:
        numbers = (int, float, np.number, decimal.Decimal)
        plain = all(isinstance(value, numbers) and not isinstance(value, bool) for value in column.dropna())
        return plain or _is_date(column)
    return bool(pd.api.types.is_numeric_dtype(column) or pd.api.types.is_timedelta64_dtype(column) or _is_date(column))


def _numbers(column: pd.Series, rows: Sequence[object], *, date: bool) -> "np.ndarray":
    """float64 values, NaN where missing; dates and durations in days."""
    if date:
        dates = _dates(column)
        _check_read(column, dates, rows, "a date")
        # In the unit of the dates: in nanoseconds there is no date before 1677 or after 2262.
        days = (dates - pd.Timestamp(0, tz="UTC").as_unit(dates.dt.unit)) / pd.Timedelta(days=1)
        return cast(np.ndarray, days.to_numpy(np.float64))
    if pd.api.types.is_timedelta64_dtype(column):
        return cast(np.ndarray, (column / pd.Timedelta(days=1)).to_numpy(np.float64))
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_datetime64_any_dtype(column):
        column = column.astype(object)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu":
        values = column.to_numpy(np.float64)
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        _check_read(column, numbers, rows, "a number")
        values = numbers.to_numpy(np.float64, na_value=np.nan)
    infinite = np.isinf(values)
    if infinite.any():
        row = rows[int(infinite.argmax())]
        raise DataError(f"row {row}: column {column.name!r} is infinite. Mend the cell, or leave it empty if unknown.")
    return cast(np.ndarray, values)


def _check_read(column: pd.Series, read: pd.Series, rows: Sequence[object], what: str) -> None:
    lost = (read.isna() & column.notna()).to_numpy()
    if lost.any():
        place = int(lost.argmax())
        raise DataError(f"row {rows[place]}: column {column.name!r} holds {column.iloc[place]!r}, which is not {what}.")


def _fit_numeric(train: pd.DataFrame, name: str, rows: Sequence[object]) -> NumericColumn:
    date = _is_date(train[name])
    values = _numbers(train[name], rows, date=date)
    missing = np.isnan(values)
    if missing.all():
        raise DataError(f"column {name!r} is empty in every training row. Leave it out: --ignore {shlex.quote(name)}.")
    median = float(np.median(values[~missing]))
    filled = np.where(missing, median, values)
    # Scaled first: the square of a value beyond 1e154 would overflow.
    scale = float(np.abs(filled).max()) or 1.0
    mean, std = float((filled / scale).mean() * scale), float((filled / scale).std() * scale)
    return NumericColumn(
        name=name, date=date, median=median, mean=mean, std=std if std > 0 else 1.0, indicator=bool(missing.any())
    )


def _fit_categorical(column: pd.Series) -> CategoricalColumn:
    texts = sorted({value_text(value) for value in column.dropna().tolist()})
    return CategoricalColumn(name=str(column.name), values=texts, missing=bool(column.isna().any()))


def encoded(frame: pd.DataFrame, columns: Columns, rows: Sequence[object]) -> tuple[torch.Tensor, list[str]]:
    """Read rows as the training rows were read.

    Args:
        frame: Has all of ``columns``.
        columns: As :func:`fit_columns` gave them.
        rows: What each row is called in messages, length N.

    Returns:
        The features, float32 ``(N, F)``, and what was filled in that training never saw, a sentence each.

    Raises:
        DataError: If a cell cannot be read, is infinite, or too far from the training values.
    """
    numbers, indicators, codes = [], [], []
    notes: list[str] = []
    for column in columns.numeric:
        name = column["name"]
        values = _numbers(frame[name], rows, date=column["date"])
        missing = np.isnan(values)
        if column["indicator"]:
            indicators.append(missing.astype(np.float32))
        elif missing.any():
            notes.append(f"column {name!r}: {missing.sum()} missing values filled by the median; training had none.")
        filled = np.where(missing, column["median"], values)
        standardised = (filled / column["std"] - column["mean"] / column["std"]).astype(np.float64)
        too_large = np.abs(standardised) > np.finfo(np.float32).max
        if too_large.any():
            place = int(too_large.argmax())
            raise DataError(
                f"row {rows[place]}: column {name!r} holds {values[place]:g}, too far from the other values."
            )
        numbers.append(standardised.astype(np.float32))
    for category in columns.categorical:
        code = _codes(frame[category["name"]], category)
        unseen = int((code == UNSEEN).sum())
        if unseen:
            notes.append(f"column {category['name']!r}: {unseen} values that training did not have share one code.")
        codes.append(code.astype(np.float32))
    return torch.from_numpy(np.stack([*numbers, *indicators, *codes], axis=1)), notes


def codes_of(category: CategoricalColumn) -> tuple[dict[str, int], int]:
    """The code of each value that training had, and that of a missing one; all others have :data:`UNSEEN`."""
    index = {text: code for code, text in enumerate(category["values"], start=1)}
    return index, len(index) + 1 if category["missing"] else UNSEEN


def _codes(column: pd.Series, category: CategoricalColumn) -> "np.ndarray":
    index, missing_code = codes_of(category)
    missing = column.isna().tolist()
    values = column.tolist()
    return np.array(
        [
            missing_code if gone else index.get(value_text(value), UNSEEN)
            for value, gone in zip(values, missing, strict=True)
        ]
    )


def notes_on(columns: Columns, train: pd.DataFrame) -> list[str]:
    """What the user should know of the columns: what was filled, read as dates, or only names the rows."""
    notes = []
    for column in columns.numeric:
        count = int(train[column["name"]].isna().sum())
        if count:
            notes.append(
                f"column {column['name']!r}: {count} of {len(train)} training rows are missing; filled by the median "
                f"{column['median']:g}, with a 0/1 column that marks them."
            )
        if column["date"]:
            notes.append(f"column {column['name']!r} holds dates; read as days.")
        if train[column["name"]].nunique(dropna=False) == 1:
            notes.append(f"column {column['name']!r} is the same in all training rows that are left.")
        if column["name"] == SAVED_INDEX:
            notes.append(f"column {SAVED_INDEX!r} looks like a saved row number: --ignore {shlex.quote(SAVED_INDEX)}?")
    for category in columns.categorical:
        count = int(train[category["name"]].isna().sum())
        if count:
            notes.append(
                f"column {category['name']!r}: {count} of {len(train)} training rows are missing; that is a category."
            )
        different = len(category["values"])
        if different > MANY_CATEGORIES and different > len(train) / 2:
            notes.append(
                f"column {category['name']!r} has {different} different texts in {len(train)} training rows; if it "
                f"only names the rows: --ignore {shlex.quote(category['name'])}."
            )
    return notes
