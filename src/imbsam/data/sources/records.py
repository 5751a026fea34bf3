"""Parsing of a text into rows of cells, in blocks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from imbsam.errors import DataError

_LONGEST = 1 << 28
# A text holds no zeros, so that no row of it is taken for this one.
_END = "\0end"


@dataclass(frozen=True)
class Misfit:
    """Row with another number of fields than the table.

    Args:
        row: Number of the row, from 1; blank lines are not counted.
        fields: Number of its fields.
        lines: Whether it spans several lines.
    """

    row: int
    fields: int
    lines: bool


def read_records(
    path: Path, chunks: Iterable[bytes], separator: str, width: int, kept: Iterable[int]
) -> Iterator[tuple[pa.Table, list[Misfit]]]:
    """Parse a text into rows of text cells; an empty cell is null, and blank lines are left out.

    The text is passed to pyarrow in pieces that end where a record ends: pyarrow's own threads read ahead in a Python
    file, which hangs when the interpreter exits.

    Args:
        path: The file, for errors.
        chunks: The text as UTF-8 without a header or zeros.
        separator: The character between two cells.
        width: Number of fields of a row.
        kept: Indices of the columns to keep.

    Yields:
        Blocks of rows, and the rows among them that do not fit and are left out.

    Raises:
        DataError: If a quote is left open.
    """
    places = [str(place) for place in range(width)]
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(places, pa.string()),
        include_columns=[places[place] for place in kept],
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    rest, enough, seen = b"", 0, 0
    for chunk in chain(chunks, [None]):
        rest += chunk or b""
        if not rest or (chunk is not None and len(rest) < enough):
            continue
        for end in [len(rest)] if chunk is None else _likely_ends(rest):
            try:
                table, met = _parsed(rest[:end], separator, places, convert)
            except pa.ArrowInvalid as error:
                raise DataError(f"{path}: cannot be read as a table ({error}).") from error
            if met.ended:
                yield table, [Misfit(seen + found.row, found.fields, found.lines) for found in met.found]
                rest, enough, seen = rest[end:], 0, seen + len(table) + len(met.found)
                break
        else:
            if chunk is None or len(rest) > _LONGEST:
                raise DataError(f"{path}: a quote is not closed in row {seen + max(met.rows, 1)} or before. Close it.")
            enough = 2 * len(rest)


def _likely_ends(text: bytes) -> Iterator[int]:
    """Return where the last whole record may end: after the last line end outside quotes, if quotes enclose cells.

    The second place is the last line end inside quotes, for texts with a quote within a cell.
    """
    mark = b"\n" if b"\n" in text else b"\r"
    end, quotes, inside = len(text), text.count(b'"'), {0, 1}
    while inside and (place := text.rfind(mark, 0, end)) >= 0:
        quotes -= text.count(b'"', place, end)
        end = place
        if quotes % 2 in inside:
            inside.remove(quotes % 2)
            yield place + 1


@dataclass
class _Met:
    """Handler for what pyarrow finds in a piece besides the rows that fit.

    A last row with one field too many is added to each piece. If it is not reported, it is within quotes.
    """

    end: str
    found: list[Misfit] = field(default_factory=list)
    rows: int = 0
    ended: bool = False

    def __call__(self, row: pc.InvalidRow) -> str:
        """Remember a row that does not fit."""
        if row.text == self.end:
            self.ended = True
        elif _END not in row.text:
            self.found.append(Misfit(row.number, row.actual_columns, "\n" in row.text or "\r" in row.text))
        return "skip"


def _parsed(text: bytes, separator: str, places: list[str], convert: pc.ConvertOptions) -> tuple[pa.Table, _Met]:
    met = _Met(separator * len(places) + _END)
    data = b"%b\n%b\n" % (text, met.end.encode())
    # Without threads pyarrow numbers the rows that do not fit.
    read = pc.ReadOptions(column_names=places, block_size=len(data) + 1, use_threads=False)
    parse = pc.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=met)
    table = pc.read_csv(pa.BufferReader(data), read, parse, convert)
    met.rows = len(table) + len(met.found)
    return table, met
