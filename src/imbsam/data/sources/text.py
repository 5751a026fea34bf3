"""Text tables: CSV and similar, with every cell as the text in the file."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from imbsam.data.sources.dialect import GUESSED, Cut, Dialect, best_cuts, cut, separator_name, separators_name
from imbsam.data.sources.encoded import Encoded, find_encoding, members
from imbsam.data.sources.endings import SEPARATED_BY
from imbsam.data.sources.raw import listed
from imbsam.data.sources.records import Misfit, read_records
from imbsam.errors import DataError


@dataclass(frozen=True)
class TextTable:
    """Text table that is read whole or in blocks, its columns all texts.

    An empty cell is null, whether quoted or not; every other cell is verbatim. Blank lines are not rows.

    Args:
        names: Names of the columns.
        notes: Sentences on decisions; rows that are left out are noted once they have been read.
        text: The file.
        cut: Separator and first rows of the file.
        start: Number of bytes before the first row, in UTF-8.
        skip_bad: Leave out rows that have another number of fields.
        kept: Indices of the columns to keep.
    """

    names: tuple[str, ...]
    notes: list[str]
    text: Encoded
    cut: Cut
    start: int
    skip_bad: bool
    kept: tuple[int, ...]

    def whole(self) -> pa.Table:
        """Return all rows.

        Raises:
            DataError: If a row does not fit the header, or a quote is not closed.
        """
        return pa.concat_tables([self._none(), *self._pieces()])

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """Yield blocks of rows.

        Args:
            rows: Number of rows of each block; the last may have fewer.

        Raises:
            DataError: In the cases of :meth:`whole`.
        """
        rest = self._none()
        for piece in self._pieces():
            rest = pa.concat_tables([rest, piece])
            while len(rest) >= rows:
                yield rest.slice(0, rows).combine_chunks()
                rest = rest.slice(rows)
        if len(rest):
            yield rest.combine_chunks()

    def filled(self) -> dict[int, int]:
        """Return the indices of the columns with any content, and the number, from 1, of the first row with some."""
        found: dict[int, int] = {}
        seen = 0
        for piece, misfits in self._records():
            for place, column in zip(self.kept, piece.columns, strict=True):
                if place not in found and column.null_count < len(column):
                    row = seen + pc.index(column.is_valid(), True).as_py() + 1
                    for misfit in misfits:
                        row += misfit.row <= row
                    found[place] = row
            seen += len(piece) + len(misfits)
        return found

    def _none(self) -> pa.Table:
        return pa.schema([(name, pa.string()) for name in self.names]).empty_table()

    def _pieces(self) -> Iterator[pa.Table]:
        """Yield the rows as they are parsed; rows that do not fit are left out and noted, or refused."""
        left_out: list[Misfit] = []
        for piece, misfits in self._records():
            if misfits and not self.skip_bad:
                raise DataError(f"{self.text.path}: {self._refusal(misfits[0])}")
            left_out.extend(misfits)
            yield piece.rename_columns(self.names)
        if left_out:
            rows = listed([str(misfit.row) for misfit in left_out])
            note = (
                f"{self.text.path.name}: left out because they do not have {_number(self.cut.width, 'field')}: "
                f"{_number(len(left_out), 'row')} (row {rows})."
            )
            self.notes.extend([note] if note not in self.notes else [])

    def _records(self) -> Iterator[tuple[pa.Table, list[Misfit]]]:
        return read_records(self.text.path, self._body(), self.cut.separator, self.cut.width, self.kept)

    def _body(self) -> Iterator[bytes]:
        """Yield the text after the header."""
        skip = self.start
        for chunk in self.text.chunks():
            yield chunk[skip:]
            skip -= min(skip, len(chunk))

    def _refusal(self, misfit: Misfit) -> str:
        named = self.cut.width == len(self.cut.header)
        expected = f"the header names {self.cut.width}" if named else f"the others have {self.cut.width}"
        lines = " It spans several lines: is a quote not closed?" if misfit.lines else ""
        return (
            f"row {misfit.row} has {_number(misfit.fields, 'field')}, {expected}.{lines} Correct it, or leave such "
            "rows out (--skip-bad)."
        )


def open_text(path: Path, asked: Dialect, *, skip_bad: bool = False) -> TextTable:
    """Open a text table and find out its format.

    Args:
        path: The file, compressed or not.
        asked: Format as far as the user gave it.
        skip_bad: Leave out rows that have another number of fields than the header instead of raising an error.

    Returns:
        The table, without any row in memory. A column without a name is called ``Unnamed: N`` after its index from 0,
        and is left out if it is empty in every row.

    Raises:
        DataError: If the file is empty, not a text, or in another encoding, its separator is unclear, two columns have
            the same name, or the rows have a field that the header does not name.
    """
    notes: list[str] = []
    text = find_encoding(path, asked.encoding, notes)
    found, start = _cut(text, asked.separator, notes)
    names = _names(path, found)
    table = TextTable(names, notes, text, found, start, skip_bad, tuple(range(found.width)))
    nameless = [place for place in table.kept if place >= len(found.header) or not found.header[place]]
    if not nameless:
        return table
    filled = replace(table, kept=tuple(nameless)).filled()
    if len(found.header) in filled:
        raise DataError(
            f"{path}: rows have {found.width} fields, the header names {len(found.header)}: first row "
            f"{filled[len(found.header)]}. Add the missing name to the header."
        )
    kept = tuple(place for place in table.kept if place in filled or place not in nameless)
    if not kept:
        raise DataError(f"{path}: the header names no column, and all fields are empty.")
    if len(kept) < found.width:
        empty = [str(place + 1) for place in nameless if place not in filled]
        notes.append(f"{path.name}: field {listed(empty)} has no name and is empty in every row; it is left out.")
    return replace(table, kept=kept, names=tuple(names[place] for place in kept))


def _cut(text: Encoded, asked: str | None, notes: list[str]) -> tuple[Cut, int]:
    """Cut the first lines by the separator given by the user or a line ``sep=;``, or by the one that fits best."""
    own = SEPARATED_BY.get(next((part for part in _suffixes(text.path) if part in SEPARATED_BY), ""))
    lines, whole = _first_lines(text)
    told = re.fullmatch(r'"?sep=(?![\w"])([\t -~])"?[\r\n]*', lines[0], re.IGNORECASE) if lines else None
    first = 1 if told else 0
    separator = asked or (told[1] if told else None) or _guess(text.path, lines[first:], own, notes, whole=whole)
    found = cut(lines[first:], separator, whole=whole)
    if not any(line.strip("\r\n") for line in lines[first:]):
        raise DataError(f"{text.path}: the file is empty.")
    if found is None:
        raise DataError(f"{text.path}: the header does not end: a quote is not closed.")
    if asked is None and len(found.header) > 1 and separator != own:
        notes.append(f"{text.path.name}: columns are separated by {separators_name(separator)}.")
    return found, len("".join(lines[: first + found.before]).encode())


def _suffixes(path: Path) -> list[str]:
    names = members(path) if path.suffix.lower() == ".zip" else []
    return [part.lower() for name in (*names[:1], path.name) for part in reversed(Path(name).suffixes)]


def _first_lines(text: Encoded) -> tuple[list[str], bool]:
    """Return enough lines to detect the separator, and whether they are all lines; few if they are long."""
    read = ""
    for chunk in text.chunks():
        read += chunk.decode()
        lines = list(StringIO(read, newline=""))
        if len(lines) > 1000 or (len(lines) > 20 and len(read) > 1 << 20):
            return lines[:-1][:1000], False
    return list(StringIO(read, newline="")), True


def _guess(path: Path, lines: Sequence[str], own: str | None, notes: list[str], *, whole: bool) -> str:
    best = best_cuts(lines, own, whole=whole)
    marks = " or ".join(separators_name(found.separator) for found in best)
    if len(best) > 1 and own not in [found.separator for found in best]:
        raise DataError(f"{path}: columns may be separated by {marks}. Choose one with --separator.")
    if len(best) > 1:
        notes.append(f"{path.name}: columns may be separated by {marks}; its ending decides (--separator).")
    if best:
        return own if own and len(best) > 1 else best[0].separator
    unused = [mark for mark in GUESSED if not any(mark in line for line in lines)]
    for mark in GUESSED:
        one = cut(lines, mark, whole=whole)
        widths = {len(row) for row in one.rows} if one else set()
        if len(widths) == 1 and widths != {1}:
            raise DataError(
                f"{path}: the header names 1 column, but its rows hold {separators_name(mark)}. Add "
                f"the missing names to the header; or, if it is one column, say --separator "
                f"{separator_name((unused or ['space'])[0])}."
            )
    return own or (unused or [","])[0]


def _names(path: Path, found: Cut) -> tuple[str, ...]:
    given = [*found.header, ""][: found.width]
    twice = sorted({repr(name) for name in given if name and given.count(name) > 1})
    if twice:
        raise DataError(f"{path}: several columns are called {listed(twice)}. Rename them.")
    names: list[str] = []
    for place, name in enumerate(given):
        free = chain([f"Unnamed: {place}"], (f"Unnamed: {place}.{n}" for n in range(1, len(given) + 1)))
        names.append(name or next(made for made in free if made not in given))
    return tuple(names)


def _number(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
