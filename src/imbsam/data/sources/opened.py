"""A table's file, opened: its columns' names, and its rows at once or some at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imbsam.data.sources.dialect import Dialect
from imbsam.data.sources.numbers import Decimal
from imbsam.data.sources.partitions import are_numbers, column, values_of
from imbsam.data.sources.raw import listed
from imbsam.data.sources.row_names import RowNames
from imbsam.data.sources.schema import Schema, decimal_of
from imbsam.data.sources.text import is_text_table, open_text
from imbsam.errors import DataError

OTHER_ENDINGS = (".parquet", ".npz", ".xlsx")

T = TypeVar("T")

SCANNED = 16_384
"""Rows that are read at a time to find out the decimal mark."""


@dataclass(frozen=True)
class OpenTable:
    """A table's file.

    Args:
        path: Of the file.
        is_text: Whether its cells are texts, of which nobody has said what they are.
        names: Of the columns, all different.
        notes: What was decided in reading it; whole after the last row.
        rows: A function that gives the rows, at most so many at a time.
    """

    path: Path
    is_text: bool
    names: Sequence[str]
    notes: list[str]
    rows: Callable[[int], Iterator[pa.Table]]
    every: Callable[[], pa.Table]

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Some columns, some rows at a time.

        Raises:
            DataError: If the file is damaged.
        """
        blocks = self.rows(rows)
        while (block := self._read(lambda: next(blocks, None))) is not None:
            yield block.select(list(columns))

    def whole(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows.

        Raises:
            DataError: If the file is damaged.
        """
        return self._read(self.every).select(list(columns))

    def with_columns(self, values: Mapping[str, tuple[str | None, bool]]) -> "OpenTable":
        """The same with further columns.

        Args:
            values: The one value of each column, and whether it is a number; a column that is there already stays.
        """
        new = {name: value for name, value in values.items() if name not in self.names}

        def added(table: pa.Table) -> pa.Table:
            for name, (value, is_number) in new.items():
                table = table.append_column(name, column(value, len(table), is_number=is_number))
            return table

        return replace(
            self,
            names=[*self.names, *new],
            rows=lambda rows: map(added, self.rows(rows)),
            every=lambda: added(self.every()),
        )

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except DataError:
            raise
        except Exception as error:  # A damaged file may raise anything, MemoryError and zlib.error among it.
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True)
class TableSet:
    """The files of one source, read as one table.

    Args:
        files: Opened, all with the same columns.
        root: The folder that is divided by columns, in which they lie.
        several: Whether a row's number alone does not say which it is.
    """

    files: Sequence[OpenTable]
    root: Path | None = None
    several: bool = False

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        dialect: Dialect,
        *,
        skip_bad: bool = False,
        root: Path | None = None,
        several: bool = False,
    ) -> "TableSet":
        """Open them.

        Args:
            paths: The files.
            dialect: How they are written, if they are text files.
            skip_bad: Leave out rows of a text file that have too many or too few fields.
            root: The folder that is divided by columns, in which they lie.
            several: Whether there are other files beside these.

        Raises:
            DataError: If one cannot be read, or their columns or kinds differ.
        """
        files = [open_table(path, dialect, skip_bad=skip_bad) for path in paths]
        for name, values in values_of(paths, root).items():
            is_number = not files[0].is_text and are_numbers(values)
            files = [file.with_columns({name: (value, is_number)}) for file, value in zip(files, values, strict=True)]
        for file in files[1:]:
            check_same_columns(file.path, file.names, files[0].names)
        if len({file.is_text for file in files}) > 1:
            raise DataError(f"text files and others together: {listed([path.name for path in paths])}. Give one kind.")
        return cls(files, root, several or len(files) > 1)

    @property
    def names(self) -> Sequence[str]:
        """Of the columns."""
        return self.files[0].names

    @property
    def is_text(self) -> bool:
        """Whether cells are texts, of which nobody has said what they are."""
        return self.files[0].is_text

    @property
    def notes(self) -> list[str]:
        """What was decided in reading; whole after the last row."""
        return [note for file in self.files for note in file.notes]

    @property
    def called(self) -> str:
        """What they are called in messages."""
        return listed([str(file.path) for file in self.files], 3)

    @property
    def before(self) -> list[str]:
        """What stands before the number of a row of each file."""
        names = [str(file.path.relative_to(self.root)) if self.root else file.path.name for file in self.files]
        return [f"{name} row " if self.several else "" for name in names]

    def has(self, name: str | None) -> bool:
        """Whether there is such a column."""
        return name in self.names

    def having(self, name: str | None) -> list[str]:
        """The column, if there is such a one."""
        return [name] if name is not None and name in self.names else []

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[tuple[pa.Table, RowNames]]:
        """Some columns, at most so many rows of a file at a time, and what the rows are called."""
        for file, before in zip(self.files, self.before, strict=True):
            first = 1
            for table in file.blocks(columns, rows):
                yield table, RowNames([(before, first, len(table))])
                first += len(table)

    def whole(self, columns: Sequence[str]) -> tuple[pa.Table, RowNames]:
        """Some columns of all rows, and what the rows are called."""
        tables = [file.whole(columns) for file in self.files]
        names = RowNames([(before, 1, len(table)) for before, table in zip(self.before, tables, strict=True)])
        return joined(tables), names

    def decimal(self, schema: Schema, asked: Decimal | None) -> Callable[[], Decimal]:
        """A function that finds out the decimal mark of the numbers; files are read again as far as it needs."""
        numbers = [kind.name for kind in schema.columns if kind.kind == "number"]

        def columns() -> Iterator[pa.ChunkedArray]:
            for table, _ in self.blocks(numbers, SCANNED) if numbers else ():
                yield from table.columns

        return decimal_of(columns, asked, self.called)


def check_same_columns(path: Path, names: Sequence[str], first: Sequence[str]) -> None:
    """Refuse a file whose columns are not those of the first one.

    Raises:
        DataError: Naming what is missing and what is additional.
    """
    missing = [name for name in first if name not in names]
    extra = [name for name in names if name not in first]
    if missing or extra:
        raise DataError(
            f"{path}: its columns differ from the other files': missing {listed(missing) or 'none'}, "
            f"additional {listed(extra) or 'none'}."
        )


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns, one below the other.

    Raises:
        DataError: If a column is of types that do not fit each other.
    """
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(
            [table.select(tables[0].column_names) for table in tables], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"the files do not fit each other: {error}.") from error


def is_table(path: Path) -> bool:
    """Whether the file's ending is that of a table; ``.txt`` is not, which may be anything."""
    return is_text_table(path) or path.suffix.lower() in OTHER_ENDINGS


def open_table(path: Path, dialect: Dialect, *, skip_bad: bool = False) -> OpenTable:
    """Open a table's file.

    Args:
        path: Of the file.
        dialect: How it is written, if it is a text file; what is left open is found out.
        skip_bad: Leave out rows of a text file that have too many or too few fields.

    Raises:
        DataError: If it cannot be read, or two of its columns have one name.
    """
    ending = path.suffix.lower()
    if ending not in OTHER_ENDINGS:
        file = open_text(path, dialect, skip_bad=skip_bad)
        return OpenTable(path, True, file.names, file.notes, file.blocks, file.whole)
    try:
        opened = {".parquet": _parquet, ".npz": _npz, ".xlsx": _excel}[ending](path)
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    twice = sorted({repr(name) for name in opened.names if list(opened.names).count(name) > 1})
    if twice:
        raise DataError(f"{path}: several columns are called {listed(twice)}. Rename them.")
    return opened


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path}: cannot be read as a table ({str(error).strip()}).")


def _sliced(table: pa.Table) -> Callable[[int], Iterator[pa.Table]]:
    def blocks(rows: int) -> Iterator[pa.Table]:
        size = max(1, min(rows, len(table)))
        yield from (table.slice(start, size) for start in range(0, len(table), size))

    return blocks


def _parquet(path: Path) -> OpenTable:
    """Every column, a named index among them; an index without a name says nothing and is left out."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    nameless = [name for name in schema.names if name.startswith("__index_level_")]
    names = [str(name) for name in schema.names if name not in nameless]
    index = _range_index(schema)
    notes = [f"{path.name}: the index without a name was left out."] if nameless else []

    def blocks(rows: int) -> Iterator[pa.Table]:
        seen = 0
        with pq.ParquetFile(path) as file:
            size = max(1, min(rows, file.metadata.num_rows))
            for batch in file.iter_batches(size, columns=names):
                table = pa.Table.from_batches([batch])
                if index is not None:
                    name, start, step = index
                    numbers = start + step * np.arange(seen, seen + len(table))
                    table = table.append_column(name, pa.array(numbers))
                seen += len(table)
                yield table

    def whole() -> pa.Table:
        return pa.concat_tables(blocks(2**62))

    return OpenTable(path, False, [*names, *([index[0]] if index else [])], notes, blocks, whole)


def _range_index(schema: pa.Schema) -> tuple[str, int, int] | None:
    """A named index of pandas that is a range, which stands in the metadata alone: name, start, step."""
    for index in (schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("kind") == "range" and index.get("name"):
            return str(index["name"]), int(index["start"]), int(index["step"])
    return None


def _npz(path: Path) -> OpenTable:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if "X" not in arrays or arrays["X"].ndim != 2:
            raise ValueError(f"expected arrays X (N, F) and y (N,); it holds {listed(sorted(arrays)) or 'nothing'}")
        values = arrays["X"]
        columns = {f"x{place}": pa.array(values[:, place]) for place in range(values.shape[1])}
        if "y" in arrays:
            labels = arrays["y"].squeeze()
            if labels.shape != (len(values),):
                raise ValueError(f"X has {len(values)} rows, but y has the shape {arrays['y'].shape}")
            columns["y"] = pa.array(labels)
        others = [name for name in arrays if name not in ("X", "y")]
    notes = [f"{path.name}: arrays other than X and y were left out: {listed(sorted(others))}."] if others else []
    table = pa.table(columns)
    return OpenTable(path, False, table.column_names, notes, _sliced(table), lambda: table)


def _excel(path: Path) -> OpenTable:
    """The first sheet, its cells as texts: what is in a cell says little of what its column is."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{path}: reading Excel files needs openpyxl: pip install 'imbsam[excel]'; or save the sheet as CSV."
        ) from None
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        sheets = book.sheetnames
        rows = [[_cell(value) for value in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()
    rows = [row for row in rows if any(value is not None for value in row)]
    if not rows:
        raise DataError(f"{path}: the first sheet, {sheets[0]!r}, is empty.")
    header, *body = rows
    width = max(place + 1 for row in rows for place, value in enumerate(row) if value is not None)
    unnamed = [place + 1 for place in range(width) if place >= len(header) or header[place] is None]
    if unnamed:
        raise DataError(
            f"{path}: column {unnamed[0]} of the sheet {sheets[0]!r} has values and no name in its first row."
        )
    names = [str(name) for name in header[:width]]
    notes = [f"{path.name}: the first of {len(sheets)} sheets was read; not {listed(sheets[1:])}."] * (len(sheets) > 1)
    # By place, because two columns may have one name, which open_table refuses.
    columns = [
        pa.array([row[place] if place < len(row) else None for row in body], pa.string()) for place in range(width)
    ]
    table = pa.Table.from_arrays(columns, names)
    return OpenTable(path, True, names, notes, _sliced(table), lambda: table)


def _cell(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
