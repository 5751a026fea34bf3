"""Encoding of table columns as numbers: standardised numeric features, missing-value indicators, category codes.

All statistics come from the training rows alone.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypedDict, cast

import numpy as np
import pandas as pd
import torch

from imbsam.data.dataset import Samples, TensorSamples
from imbsam.data.sources.cells import meaning
from imbsam.data.sources.raw import Part, PartName, listed
from imbsam.data.sources.schema import Schema
from imbsam.errors import DataError
from imbsam.inputs import TableSpec

UNSEEN = 0
"""Code of a category that training did not have."""

MANY_CATEGORIES = 50
"""A text column with more different values than this, and than half the rows, is pointed out."""

MOST_CATEGORIES = 1000
"""Number of categories that a text column keeps, the most frequent ones; if most values are different, it is
refused."""

SAVED_INDEX = "Unnamed: 0"
"""Names that pandas gives a row index that was saved with a table."""


class NumericColumn(TypedDict):
    """Encoding of a numeric column: filled by ``median``, then ``(value - mean) / std``."""

    name: str
    date: bool
    median: float
    mean: float
    std: float
    indicator: bool


class CategoricalColumn(TypedDict):
    """Encoding of a categorical column: code 0 for unseen, then ``values`` in order, then missing if in training."""

    name: str
    values: list[str]
    missing: bool


@dataclass(frozen=True)
class Columns:
    """Encoding of every column; features are in the order numeric, indicators, categorical.

    Args:
        schema: Type of each column.
        numeric: Columns of numbers, dates and durations.
        categorical: Columns of texts and of truth values.
    """

    schema: Schema
    numeric: list[NumericColumn]
    categorical: list[CategoricalColumn]

    @classmethod
    def of(cls, preprocess: Mapping[str, object]) -> "Columns":
        """Restore the encoding of a table read before.

        Args:
            preprocess: Result of :func:`table_parts`, also if it was written to JSON and read again.
        """
        return cls(
            Schema.of(preprocess.get("schema")),
            cast(list[NumericColumn], preprocess["numeric"]),
            cast(list[CategoricalColumn], preprocess["categorical"]),
        )

    def plain(self) -> dict[str, object]:
        """Return the encoding as JSON values."""
        return {"schema": self.schema.plain(), "numeric": self.numeric, "categorical": self.categorical}

    @property
    def spec(self) -> TableSpec:
        """Form of a row for the model."""
        indicators = sum(column["indicator"] for column in self.numeric)
        codes = tuple(1 + len(column["values"]) + column["missing"] for column in self.categorical)
        return TableSpec(len(self.numeric) + indicators, codes)

    @property
    def names(self) -> list[str]:
        """Names of the columns that further data must have."""
        return [column["name"] for column in self.numeric] + [column["name"] for column in self.categorical]


@dataclass(frozen=True)
class TableParts:
    """Encoded parts of a table."""

    samples: dict[PartName, Samples]
    spec: TableSpec
    preprocess: Mapping[str, object]
    notes: tuple[str, ...]


def table_parts(
    parts: Mapping[PartName, Part], *, schema: Schema, ignore: Sequence[str], whole: pd.DataFrame
) -> TableParts:
    """Encode the parts of a table.

    Args:
        parts: Parts, each with a frame of features; ``train`` is among them.
        schema: Types of the columns.
        ignore: Columns that were left out.
        whole: Training rows before any were held out, in which a column must vary to be useful.

    Returns:
        Samples (float32 rows), spec, and the encoding by which further rows are read in the same way.

    Raises:
        DataError: If a column cannot be used: constant, empty, infinite, or with too many different texts.
    """
    _check_columns(whole)
    notes: list[str] = [f"columns ignored: {listed(list(ignore))}."] if ignore else []
    train = parts["train"].frame
    columns, said = fit_columns(train, schema, parts["train"].names)
    notes += notes_on(columns, train) + said
    found = Findings()
    samples: dict[PartName, Samples] = {}
    for name, part in parts.items():
        samples[name] = TensorSamples(encoded(part.frame, columns, part.names, found), part.targets, part.names)
    preprocess = {"kind": "table", "spec": asdict(columns.spec), "ignore": list(ignore), **columns.plain()}
    return TableParts(samples, columns.spec, preprocess, (*notes, *found.notes()))


def further_rows(part: Part, preprocess: Mapping[str, object]) -> tuple[Samples, tuple[str, ...]]:
    """Encode further rows of a table in the same way as the first.

    Args:
        part: Part with a frame of features, read by the schema of ``preprocess``.
        preprocess: Result of :func:`table_parts`.

    Returns:
        Samples and notes.

    Raises:
        DataError: If a value is infinite or too far from the training values.
    """
    found = Findings()
    values = encoded(part.frame, Columns.of(preprocess), part.names, found)
    return TensorSamples(values, part.targets, part.names), tuple(found.notes())


@dataclass(frozen=True)
class Findings:
    """Counts by column of values that training did not have."""

    filled: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """Return a sentence for each column."""
        return [
            *(
                f"column {name!r}: {_number(count, 'missing value was', 'missing values were')} filled by the median; "
                "training had none."
                for name, count in self.filled.items()
            ),
            *(
                f"column {name!r}: {_number(count, 'value does', 'values do')} not occur in training; all such values "
                "share one code."
                for name, count in self.unseen.items()
            ),
        ]


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def fit_columns(
    train: pd.DataFrame, schema: Schema, rows: Sequence[object], *, most: int = MOST_CATEGORIES
) -> tuple[Columns, list[str]]:
    """Learn how to encode every column.

    Args:
        train: Training rows, read by the schema.
        schema: Types of the columns.
        rows: Names of the rows in messages, length N.
        most: Largest number of categories of a column.

    Returns:
        The columns, numeric and categorical, each in the schema's order; and notes.

    Raises:
        DataError: If a numeric column is empty or infinite, or a text column has too many different values.
    """
    numeric, categorical, notes = [], [], []
    for kind in schema.columns:
        name = kind.name
        if isinstance(train[name].dtype, pd.CategoricalDtype):
            column, said = _fit_categorical(train[name], most)
            categorical.append(column)
            notes += said
        else:
            numeric.append(_fit_numeric(train[name], rows, date=kind.kind == "date"))
    return Columns(schema, numeric, categorical), notes


def _check_columns(frame: pd.DataFrame) -> None:
    empty = [name for name in frame.columns if frame[name].isna().all()]
    constant = [name for name in frame.columns if name not in empty and is_constant(frame[name])]
    if empty or constant:
        what = [f"empty in every row: {listed(empty, 40)}"] * bool(empty)
        what += [f"the same in every row: {listed(constant, 40)}"] * bool(constant)
        raise DataError(
            f"columns without information, {'; '.join(what)}. Leave them out: --ignore {shlex.join(empty + constant)}."
        )


def is_constant(column: pd.Series) -> bool:
    """Return whether all cells of a column hold the same value, where a missing value counts as a value."""
    values = column.cat.codes.to_numpy() if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()
    return not len(values) or bool((values == values[0]).all() or column.isna().all())


def _numbers(column: pd.Series, rows: Sequence[object]) -> "np.ndarray":
    """Return float64 values, NaN where missing."""
    values = cast(np.ndarray, column.to_numpy(np.float64))
    infinite = np.isinf(values)
    if infinite.any():
        row = rows[int(infinite.argmax())]
        raise DataError(
            f"row {row}: column {column.name!r} is infinite. Correct the cell, or leave it empty if the value is "
            "unknown."
        )
    return values


def _fit_numeric(column: pd.Series, rows: Sequence[object], *, date: bool) -> NumericColumn:
    name = str(column.name)
    values = _numbers(column, rows)
    missing = np.isnan(values)
    if missing.all():
        raise DataError(f"column {name!r} is empty in every training row. Leave it out: --ignore {shlex.quote(name)}.")
    median = float(np.median(values[~missing]))
    filled = np.where(missing, median, values)
    # Scaled first: the square of a value beyond 1e154 would overflow.
    scale = float(np.abs(filled).max()) or 1.0
    mean, std = float((filled / scale).mean() * scale), float((filled / scale).std() * scale)
    return NumericColumn(
        name=name,
        date=date,
        median=median,
        mean=mean,
        std=std if std > 0 else 1.0,
        indicator=bool(missing.any()),
    )


def _fit_categorical(column: pd.Series, most: int) -> tuple[CategoricalColumn, list[str]]:
    counts = column.value_counts(sort=False)
    counts = counts[counts > 0]
    notes = []
    if len(counts) > most:
        if len(counts) > MOST_CATEGORIES and len(counts) > len(column) / 2:
            raise DataError(
                f"column {column.name!r} has {len(counts)} different texts in {len(column)} training rows: it names "
                f"the rows, and says nothing about other rows. Leave it out: --ignore {shlex.quote(str(column.name))}."
            )
        # By frequency, then by name: no order of rows decides.
        counts = counts.sort_index().sort_values(ascending=False, kind="stable").head(most)
        notes = [
            f"column {column.name!r} has more than {most} different texts; the {most} most frequent have codes of "
            "their own, the others share the code of texts that do not occur in training."
        ]
    values = sorted(str(text) for text in counts.index)
    return CategoricalColumn(name=str(column.name), values=values, missing=bool(column.isna().any())), notes


def encoded(frame: pd.DataFrame, columns: Columns, rows: Sequence[object], found: Findings) -> torch.Tensor:
    """Encode rows in the same way as the training rows.

    Args:
        frame: Frame with all of ``columns``, read by their schema.
        columns: Encoding from :func:`fit_columns`.
        rows: Names of the rows in messages, length N.
        found: Counter for values that training did not have.

    Returns:
        The features, float32 ``(N, F)``.

    Raises:
        DataError: If a cell is infinite, or too far from the training values.
    """
    numbers, indicators, codes = [], [], []
    for column in columns.numeric:
        name = column["name"]
        values = _numbers(frame[name], rows)
        missing = np.isnan(values)
        if column["indicator"]:
            indicators.append(missing.astype(np.float32))
        elif missing.any():
            found.filled[name] += int(missing.sum())
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
        if unseen := int((code == UNSEEN).sum()):
            found.unseen[category["name"]] += unseen
        codes.append(code.astype(np.float32))
    return torch.from_numpy(np.stack([*numbers, *indicators, *codes], axis=1))


def codes_of(category: CategoricalColumn) -> tuple[dict[str, int], int]:
    """Return the code of each value of training, and that of a missing value; all others have :data:`UNSEEN`."""
    index = {text: code for code, text in enumerate(category["values"], start=1)}
    return index, len(index) + 1 if category["missing"] else UNSEEN


def _codes(column: pd.Series, category: CategoricalColumn) -> "np.ndarray":
    index, missing_code = codes_of(category)
    held = [str(text) for text in column.cat.categories]
    alike: dict[str, int] = {}
    if not index.keys() >= set(held):
        # A text that training did not have may be one that it had, written otherwise: 12.0 for 12, TRUE for True.
        meant = Counter(map(meaning, index))
        alike = {meaning(text): code for text, code in index.items() if meant[meaning(text)] == 1}
    code = np.array([*(index.get(text) or alike.get(meaning(text), UNSEEN) for text in held), missing_code])
    return cast(np.ndarray, code[column.cat.codes.to_numpy()])


def notes_on(columns: Columns, train: pd.DataFrame) -> list[str]:
    """Describe what the user should know of the columns: what was filled, read as dates, or only names the rows."""
    notes = []
    for column in columns.numeric:
        count = int(train[column["name"]].isna().sum())
        if count:
            notes.append(
                f"column {column['name']!r} is missing in {count} of {len(train)} training rows; filled by the median "
                f"{column['median']:g}, and a 0/1 column marks these rows."
            )
        if column["date"]:
            notes.append(f"column {column['name']!r} holds dates; read as days.")
        if is_constant(train[column["name"]]):
            notes.append(f"column {column['name']!r} is constant in the remaining training rows.")
        if column["name"] == SAVED_INDEX:
            notes.append(f"column {SAVED_INDEX!r} looks like a saved row number: --ignore {shlex.quote(SAVED_INDEX)}?")
    for category in columns.categorical:
        count = int(train[category["name"]].isna().sum())
        if count:
            notes.append(
                f"column {category['name']!r} is missing in {count} of {len(train)} training rows; that is a category "
                "of its own."
            )
        different = len(category["values"])
        if different > MANY_CATEGORIES and different > len(train) / 2:
            notes.append(
                f"column {category['name']!r} has {different} different texts in {len(train)} training rows; if it "
                f"only names the rows: --ignore {shlex.quote(category['name'])}."
            )
    return notes
