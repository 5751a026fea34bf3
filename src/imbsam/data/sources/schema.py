"""Schema of a table, and the reading of rows by it, so that a cell means the same in every file."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from imbsam.data.sources.cells import Reader
from imbsam.data.sources.kinds import WORDS, ColumnType, UnfitError, is_text, text_type, typed_type
from imbsam.data.sources.numbers import MISSING, Decimal, decimal_mark, marks_in
from imbsam.errors import DataError


@dataclass(frozen=True)
class Schema:
    """Types of a table's columns.

    Args:
        columns: Types of the features, in order.
        missing: Words for a missing value; ``"auto"`` stands for the usual ones.
    """

    columns: tuple[ColumnType, ...]
    missing: tuple[str, ...] = ("auto",)

    @classmethod
    def of(cls, values: object) -> "Schema":
        """Restore the schema from :meth:`plain`, also if it was written to JSON and read again.

        Raises:
            DataError: If the schema is missing or damaged.
        """
        if values is None:
            raise DataError(
                "the types of the columns were not stored: another version of imbsam wrote this. Train again."
            )
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise DataError(f"the types of the columns cannot be read: {error.errors()[0]['msg']}.") from None

    def plain(self) -> dict[str, object]:
        """Return the schema as JSON values."""
        return asdict(self)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    def without(self, names: Collection[str]) -> "Schema":
        """Return the schema without some columns."""
        return Schema(tuple(column for column in self.columns if column.name not in names), self.missing)

    @property
    def missing_words(self) -> frozenset[str]:
        """Words for a missing value."""
        return missing_words(self.missing)


USUAL = "auto"
"""Word that stands for the usual words for a missing value."""


def missing_words(asked: Sequence[str]) -> frozenset[str]:
    """Return the words for a missing value: those given, the usual ones for ``"auto"``; the empty cell always."""
    others = frozenset(("", *asked)) - {USUAL}
    return others | MISSING if USUAL in asked else others


def learn(
    table: pa.Table,
    *,
    is_file: bool,
    texts: Collection[str] = (),
    missing: Sequence[str] = (USUAL,),
    source: str = "X",
) -> tuple[Schema, list[str]]:
    """Learn the types of the columns.

    Args:
        table: The training rows' features.
        is_file: Whether the table is from a text file, in which numbers and dates are texts, too.
        texts: Columns to read as text even if they look like numbers.
        missing: Words for a missing value; ``"auto"`` stands for the usual ones, and others among numbers.
        source: Name of the table in messages.

    Returns:
        The schema, and notes on it.

    Raises:
        DataError: If a column can be read in several ways, or cannot be a feature; the message names it.
    """
    columns, notes = [], []
    for name in table.column_names:
        try:
            if name in texts:
                kind, said = ColumnType(name, "text"), ""
            elif is_file:
                kind, said = text_type(name, table.column(name), missing_words(missing), guess=USUAL in missing)
            else:
                kind, said = typed_type(name, table.column(name), missing_words(missing)), ""
        except UnfitError as error:
            raise DataError(f"{source}: column {name!r} {error}.") from None
        columns.append(kind)
        notes += [f"column {name!r}: {said}"] * bool(said)
    return Schema(tuple(columns), tuple(missing)), notes


@dataclass
class Unreadable:
    """Cells of a column that cannot be read: their number, and the first of them."""

    count: int
    row: str
    value: str


@dataclass
class Reading:
    """Reader of the rows of one source by a schema, in blocks or all at once.

    Args:
        schema: Types of the columns.
        source: Name of the source in messages.
        decimal: Function that finds the decimal mark of its numbers in text.
    """

    schema: Schema
    source: str
    decimal: Callable[[], Decimal] = field(default=lambda: ".")
    unreadable: dict[str, Unreadable] = field(default_factory=dict)
    readable: Counter[str] = field(default_factory=Counter)
    has_commas: bool = False

    def frame(self, table: pa.Table, rows: Sequence[object]) -> pd.DataFrame:
        """Read rows.

        Args:
            table: Table with all columns of the schema.
            rows: Names of the rows in messages, length N.

        Returns:
            Columns of float64 (dates and durations in days), or of texts as categories; NaN where missing or
            unreadable.

        Raises:
            DataError: If a column is of another type than in training.
        """
        reader = Reader(self.schema.missing_words, self._found)
        series = {}
        for kind in self.schema.columns:
            column = table.column(kind.name)
            try:
                cells = reader.read(column, kind)
            except UnfitError as error:
                row = "" if error.place is None else f"row {rows[error.place]}: "
                raise DataError(f"{self.source}: {row}column {kind.name!r} {error}.") from None
            series[kind.name] = pd.Series(cells.values, copy=False)
            self._count(kind, column, cells.unreadable, series[kind.name], rows)
        return pd.DataFrame(series, copy=False)

    def _found(self) -> Decimal:
        mark = self.decimal()
        self.has_commas |= mark == ","
        return mark

    def _count(
        self,
        kind: ColumnType,
        column: pa.ChunkedArray,
        unreadable: "np.ndarray",
        read: pd.Series,
        rows: Sequence[object],
    ) -> None:
        self.readable[kind.name] += int(read.notna().sum())
        if not unreadable.any():
            return
        if USUAL in self.schema.missing and is_text(column.type):
            self.readable[kind.name] += marks_in(column.filter(pa.array(unreadable)))
        place = int(unreadable.argmax())
        first = Unreadable(0, str(rows[place]), str(column[place].as_py()))
        self.unreadable.setdefault(kind.name, first).count += int(unreadable.sum())

    def notes(self) -> list[str]:
        """Describe what could not be read, a sentence for each column; call it after the last row.

        Raises:
            DataError: If nothing in a column could be read although not all of it is missing.
        """
        notes = ["the decimal mark is a comma."] if self.has_commas else []
        for kind in self.schema.columns:
            lost = self.unreadable.get(kind.name)
            if lost is None:
                continue
            what = f"not {WORDS[kind.kind]}"
            if not self.readable[kind.name]:
                raise DataError(
                    f"{self.source}: row {lost.row}: column {kind.name!r} holds {lost.value!r}, which is {what}, and "
                    f"none of its {lost.count} values is. Check that it is the same column in the same format as in "
                    "training."
                )
            some = "1 value is" if lost.count == 1 else f"{lost.count} values are"
            notes.append(
                f"column {kind.name!r}: {some} {what}, first {lost.value!r} in row {lost.row}; read as missing."
            )
        return notes


def decimal_of(
    columns: Callable[[], Iterable[pa.ChunkedArray]], asked: Decimal | None, where: str
) -> Callable[[], Decimal]:
    """Return a function that finds the decimal mark of a file when it is first needed.

    Args:
        columns: The columns of numbers, as texts.
        asked: The mark, if the user gave it.
        where: Name of the file in messages.

    Returns:
        The function; it raises a DataError if a number with a comma can be read in two ways, and no other decides.
    """

    @cache
    def found() -> Decimal:
        if asked is not None:
            return asked
        mark, is_open = decimal_mark(column for column in columns() if is_text(column.type))
        if is_open:
            raise DataError(
                f"{where}: numbers such as 1,234 can be read in two ways, and no other number decides. Say which mark "
                "separates the fraction: --decimal , where 1,234 is below 2, --decimal . where it is above 1000; "
                "or give numbers instead of texts."
            )
        return mark or "."

    return found


def frame_reading(schema: Schema, table: pa.Table) -> Reading:
    """Return a reader of a data frame, whose columns of texts may contain numbers with either decimal mark.

    Args:
        schema: Types of the columns.
        table: All rows of the frame.
    """
    numbers = [table.column(kind.name) for kind in schema.columns if kind.kind == "number"]
    return Reading(schema, "X", decimal_of(lambda: numbers, None, "X"))
