"""An opened table file: the names of its columns, and its rows in one piece or in blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imbsam.data.sources.dialect import Dialect
from imbsam.data.sources.endings import OTHER_ENDINGS
from imbsam.data.sources.partitions import column
from imbsam.data.sources.raw import listed
from imbsam.data.sources.text import open_text
from imbsam.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class OpenTable:
    """Opened file of a table.

    Args:
        path: Path of the file.
        is_text: Whether its cells are texts without a type.
        names: Names of the columns, all distinct.
        notes: Notes on decisions in reading it; complete after the last row.
        rows: Function that yields the rows, at most a given number at a time.
        every: Function that returns all rows.
    """

    path: Path
    is_text: bool
    names: Sequence[str]
    notes: list[str]
    rows: Callable[[int], Iterator[pa.Table]]
    every: Callable[[], pa.Table]

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield some columns, a block of rows at a time.

        Raises:
            DataError: If the file is damaged.
        """
        blocks = self.rows(rows)
        while (block := self._read(lambda: next(blocks, None))) is not None:
            yield block.select(list(columns))

    def whole(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows.

        Raises:
            DataError: If the file is damaged.
        """
        return self._read(self.every).select(list(columns))

    def with_columns(self, values: Mapping[str, tuple[str | None, bool]]) -> "OpenTable":
        """Return the table with further columns.

        Args:
            values: Constant value of each column, and whether it is a number; an existing column is not replaced.
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


def open_table(path: Path, dialect: Dialect, *, skip_bad: bool = False) -> OpenTable:
    """Open the file of a table.

    Args:
        path: Path of the file.
        dialect: Format of a text file; what is left open is detected.
        skip_bad: Leave out rows of a text file that have too many or too few fields.

    Raises:
        DataError: If the file cannot be read, or two of its columns have the same name.
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
    """Open a Parquet file with every column, including a named index; an index without a name is left out."""
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
    """Return a named index of pandas that is a range, which exists in the metadata alone: name, start, step."""
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
    """Open the first sheet with its cells as texts: the type of a cell says little about the type of its column."""
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
