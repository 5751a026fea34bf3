"""Several files of one source, read as one table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from imbsam.data.sources.dialect import Dialect
from imbsam.data.sources.numbers import Decimal
from imbsam.data.sources.opened import OpenTable, open_table
from imbsam.data.sources.partitions import are_numbers, values_of
from imbsam.data.sources.raw import listed
from imbsam.data.sources.row_names import RowNames
from imbsam.data.sources.schema import Schema, decimal_of
from imbsam.errors import DataError

SCANNED = 16_384
"""Number of rows that are read at a time to find the decimal mark."""


@dataclass(frozen=True)
class TableSet:
    """Files of one source, read as one table.

    Args:
        files: Opened files, all with the same columns.
        root: Folder partitioned by columns that contains them.
        several: Whether a row needs the name of its file beside its number.
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
        """Open the files.

        Args:
            paths: The files.
            dialect: Format of the files, if they are text files.
            skip_bad: Leave out rows of a text file that have too many or too few fields.
            root: Folder partitioned by columns that contains them.
            several: Whether there are other files besides these.

        Raises:
            DataError: If a file cannot be read, or their columns or kinds differ.
        """
        files = [open_table(path, dialect, skip_bad=skip_bad) for path in paths]
        for name, values in values_of(paths, root).items():
            is_number = not files[0].is_text and are_numbers(values)
            files = [file.with_columns({name: (value, is_number)}) for file, value in zip(files, values, strict=True)]
        for file in files[1:]:
            check_same_columns(file.path, file.names, files[0].names)
        if len({file.is_text for file in files}) > 1:
            raise DataError(
                f"the files are a mix of text files and others: {listed([path.name for path in paths])}. Give files of "
                "one kind."
            )
        return cls(files, root, several or len(files) > 1)

    @property
    def names(self) -> Sequence[str]:
        """Names of the columns."""
        return self.files[0].names

    @property
    def is_text(self) -> bool:
        """Return whether cells are texts without a type."""
        return self.files[0].is_text

    @property
    def notes(self) -> list[str]:
        """Notes on decisions in reading; complete after the last row."""
        return [note for file in self.files for note in file.notes]

    @property
    def called(self) -> str:
        """Name of the files in messages."""
        return listed([str(file.path) for file in self.files], 3)

    @property
    def before(self) -> list[str]:
        """Prefixes of the row numbers of each file."""
        names = [str(file.path.relative_to(self.root)) if self.root else file.path.name for file in self.files]
        return [f"{name} row " if self.several else "" for name in names]

    def has(self, name: str | None) -> bool:
        """Return whether there is such a column."""
        return name in self.names

    def having(self, name: str | None) -> list[str]:
        """Return the column, if it exists."""
        return [name] if name is not None and name in self.names else []

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[tuple[pa.Table, RowNames]]:
        """Yield some columns, a block of rows of a file at a time, with the names of the rows."""
        for file, before in zip(self.files, self.before, strict=True):
            first = 1
            for table in file.blocks(columns, rows):
                yield table, RowNames([(before, first, len(table))])
                first += len(table)

    def whole(self, columns: Sequence[str]) -> tuple[pa.Table, RowNames]:
        """Return some columns of all rows, with the names of the rows."""
        tables = [file.whole(columns) for file in self.files]
        names = RowNames([(before, 1, len(table)) for before, table in zip(self.before, tables, strict=True)])
        return joined(tables), names

    def decimal(self, schema: Schema, asked: Decimal | None) -> Callable[[], Decimal]:
        """Return a function that finds the decimal mark of the numbers; it reads the files again as far as needed."""
        numbers = [kind.name for kind in schema.columns if kind.kind == "number"]

        def columns() -> Iterator[pa.ChunkedArray]:
            for table, _ in self.blocks(numbers, SCANNED) if numbers else ():
                yield from table.columns

        return decimal_of(columns, asked, self.called)


def check_same_columns(path: Path, names: Sequence[str], first: Sequence[str]) -> None:
    """Refuse a file whose columns differ from those of the first file.

    Raises:
        DataError: If they differ; the message names missing and additional columns.
    """
    missing = [name for name in first if name not in names]
    extra = [name for name in names if name not in first]
    if missing or extra:
        raise DataError(
            f"{path}: its columns differ from the other files': missing {listed(missing) or 'none'}, "
            f"additional {listed(extra) or 'none'}."
        )


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables with the same columns.

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
        raise DataError(f"the files do not fit together: {error}.") from error
