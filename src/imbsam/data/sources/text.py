"""Text tables: CSV and its relatives, every cell as the text that stands there."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from imbsam.data.sources.dialect import GUESSED, Cut, Dialect, best_cuts, cut, separator_name
from imbsam.data.sources.encoded import Encoded, find_encoding, members
from imbsam.data.sources.raw import listed
from imbsam.errors import DataError

_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|", ".data": None, ".dat": None}
_PACKED = (".gz", ".bz2", ".zst", ".xz", ".zip")
TEXT_ENDINGS = tuple(ending + packed for ending in _ENDINGS for packed in ("", *_PACKED))
_BLOCK = 1 << 20
_LONGEST = 1 << 28
# A text with zeros in it is refused, so that no row of a file is taken for this one.
_END = "\0end"


def is_text_table(path: Path) -> bool:
    """Whether the file's ending is that of a text table, packed or not; or it is a zip archive of such files alone."""
    if path.name.lower().endswith(TEXT_ENDINGS):
        return True
    names = members(path) if path.suffix.lower() == ".zip" else []
    return bool(names) and all(Path(name).suffix.lower() in _ENDINGS for name in names)


@dataclass(frozen=True)
class TextTable:
    """A text table that is read whole or by blocks, its columns all texts.

    An empty cell is null, whether quoted or not; every other cell is verbatim. Blank lines are no rows.

    Args:
        names: Of the columns.
        notes: What was decided, a sentence each; rows that are left out are said once they have been read.
        text: The file.
        cut: Its separator and first rows.
        skip_bad: Leave out rows that have another number of fields.
        kept: The columns' places.
    """

    names: tuple[str, ...]
    notes: list[str]
    text: Encoded
    cut: Cut
    skip_bad: bool
    kept: tuple[int, ...]

    def whole(self) -> pa.Table:
        """All rows.

        Raises:
            DataError: If a row does not fit the header, or a quote is left open.
        """
        return pa.Table.from_batches(self._batches(), self._schema())

    def blocks(self, rows: int) -> Iterator[pa.Table]:
        """Some rows at a time.

        Args:
            rows: Of each block but the last, which may have fewer.

        Raises:
            DataError: As :meth:`whole`.
        """
        rest = self._schema().empty_table()
        for batch in self._batches():
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            while len(rest) >= rows:
                yield rest.slice(0, rows).combine_chunks()
                rest = rest.slice(rows)
        if len(rest):
            yield rest.combine_chunks()

    def _schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.names])

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as pyarrow cuts them, read anew with larger pieces where one row is longer than a piece."""
        seen, size = 0, _BLOCK
        while True:
            misfits = _Misfits(self.cut, self.skip_bad)
            before = seen
            try:
                with self.text.stream(end=misfits.end) as stream, self._reader(stream, misfits, size) as reader:
                    for batch in reader:
                        new = batch.slice(max(before, 0))
                        before -= len(batch) - len(new)
                        seen += len(new)
                        yield pa.RecordBatch.from_arrays(new.columns, schema=self._schema())
                break
            except pa.ArrowInvalid as error:
                if misfits.found and not self.skip_bad:
                    raise DataError(f"{self.text.path}: {misfits.sentence()}") from error
                if "straddl" not in str(error):
                    raise DataError(f"{self.text.path}: cannot be read as a table ({error}).") from error
                if size >= _LONGEST:
                    raise DataError(f"{self.text.path}: {misfits.open_quote(seen)}") from error
                size *= 16
        if not misfits.ended:
            raise DataError(f"{self.text.path}: {misfits.open_quote(seen)}")
        if misfits.found:
            note = f"{self.text.path.name}: {misfits.left_out()}"
            self.notes.extend([note] if note not in self.notes else [])

    def _reader(self, stream: object, misfits: "_Misfits", size: int) -> pc.CSVStreamingReader:
        places = [str(place) for place in range(self.cut.width)]
        return pc.open_csv(
            stream,
            # Without threads pyarrow numbers the rows that do not fit.
            pc.ReadOptions(
                column_names=places, skip_rows_after_names=self.cut.before, block_size=size, use_threads=False
            ),
            pc.ParseOptions(
                delimiter=self.cut.separator, newlines_in_values=self.text.quoted, invalid_row_handler=misfits
            ),
            pc.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                include_columns=[places[place] for place in self.kept],
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def open_text(path: Path, asked: Dialect, *, skip_bad: bool = False) -> TextTable:
    """Find out how a text table is written.

    Args:
        path: The file, packed or not.
        asked: What is known of it.
        skip_bad: Leave out rows that have another number of fields than the header instead of raising.

    Returns:
        The table, none of whose rows is in memory. A column without a name is called ``Unnamed: N`` after its place
        from 0, and is left out where it is empty in every row.

    Raises:
        DataError: If the file is empty, no text or in another encoding, its separator is in doubt, two columns have one
            name, or the rows have a field that the header does not name.
    """
    notes: list[str] = []
    text = find_encoding(path, asked.encoding, notes)
    found = _cut(text, asked.separator, notes)
    names = _names(path, found)
    table = TextTable(names, notes, text, found, skip_bad, tuple(range(found.width)))
    nameless = [place for place in table.kept if place >= len(found.header) or not found.header[place]]
    if not nameless:
        return table
    filled = _filled(replace(table, kept=tuple(nameless), names=tuple(names[place] for place in nameless), notes=[]))
    if len(found.header) in filled:
        raise DataError(
            f"{path}: rows have {found.width} fields, the header names {len(found.header)}: first row "
            f"{filled[len(found.header)]}. Add the missing name to the header."
        )
    kept = tuple(place for place in table.kept if place in filled or place not in nameless)
    if len(kept) < found.width:
        empty = [str(place + 1) for place in nameless if place not in filled]
        notes.append(f"{path.name}: field {listed(empty)} has no name and is empty in every row; it is left out.")
    return replace(table, kept=kept, names=tuple(names[place] for place in kept))


def _cut(text: Encoded, asked: str | None, notes: list[str]) -> Cut:
    """Cut the first lines by the separator asked for, that of a line ``sep=;``, or the one that fits best."""
    own = _ENDINGS.get(next((part for part in _suffixes(text.path) if part in _ENDINGS), ""))
    lines, whole = _first_lines(text)
    told = re.fullmatch(r'"?sep=([^\w"\r\n])"?[\r\n]*', lines[0], re.IGNORECASE) if lines else None
    first = 1 if told else 0
    separator = asked or (told[1] if told else None) or _guess(text.path, lines[first:], own, notes, whole=whole)
    found = cut(lines[first:], separator, whole=whole)
    if not any(line.strip("\r\n") for line in lines[first:]):
        raise DataError(f"{text.path}: the file is empty.")
    if found is None:
        raise DataError(f"{text.path}: the header does not end: a quote is left open.")
    if asked is None and len(found.header) > 1 and separator != own:
        notes.append(f"{text.path.name}: columns are separated by the character {separator_name(separator)}.")
    return replace(found, before=found.before + first)


def _suffixes(path: Path) -> list[str]:
    names = members(path) if path.suffix.lower() == ".zip" else []
    return [part.lower() for name in (*names[:1], path.name) for part in reversed(Path(name).suffixes)]


def _first_lines(text: Encoded) -> tuple[list[str], bool]:
    """Enough lines to tell the separator by, and whether they are all; few where they are long."""
    lines: list[str] = []
    length = 0
    with text.lines() as stream:
        for line in islice(stream, 1000):
            lines.append(line)
            length += len(line)
            if length > 1 << 20 and len(lines) > 20:
                break
        return lines, next(stream, None) is None


def _guess(path: Path, lines: Sequence[str], own: str | None, notes: list[str], *, whole: bool) -> str:
    best = best_cuts(lines, own, whole=whole)
    marks = " or ".join(separator_name(found.separator) for found in best)
    if len(best) > 1 and own not in [found.separator for found in best]:
        raise DataError(f"{path}: columns may be separated by {marks}. Say which by --separator.")
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
                f"{path}: the header names 1 column, but the character {separator_name(mark)} stands in every row. Add "
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


def _filled(table: TextTable) -> dict[int, int]:
    """The columns that hold something, and the first row, counted from 1, that does."""
    filled: dict[int, int] = {}
    seen = 0
    for batch in table._batches():
        for place, column in zip(table.kept, batch.columns, strict=True):
            if place not in filled and column.null_count < len(column):
                filled[place] = seen + column.is_valid().index(True).as_py() + 1
        seen += len(batch)
    return filled


@dataclass
class _Misfits:
    """The rows that have another number of fields, as pyarrow meets them."""

    cut: Cut
    skip: bool
    found: list[tuple[int, int, str]] = field(default_factory=list)
    ended: bool = False

    @property
    def end(self) -> str:
        """A last row of one field too many: where it is not met as such, a quote was left open before it."""
        return f"\n{self.cut.separator * self.cut.width}{_END}"

    def __call__(self, row: pc.InvalidRow) -> str:
        """Remember a row; what pyarrow shall do with it."""
        if row.text == self.end[1:]:
            self.ended = True
            return "skip"
        if _END not in row.text:
            self.found.append((row.number - self.cut.before, row.actual_columns, row.text))
        return "skip" if self.skip or _END in row.text else "error"

    def sentence(self) -> str:
        """What is wrong with the first of them."""
        row, fields, text = self.found[0]
        lines = " It runs over several lines: is a quote left open?" if "\n" in text or "\r" in text else ""
        return (
            f"row {row} has {_fields(fields)}, {self._expected()}.{lines} Mend it, or leave such rows out (--skip-bad)."
        )

    def open_quote(self, seen: int) -> str:
        """Where a quote is left open, ``seen`` rows having been read."""
        return f"a quote is left open in row {max(seen + len(self.found), 1)} or before. Mend it."

    def left_out(self) -> str:
        """Which rows are left out, and why."""
        rows = listed([str(row) for row, _, _ in self.found])
        return f"{len(self.found)} of the rows do not have {_fields(self.cut.width)} and were left out: row {rows}."

    def _expected(self) -> str:
        named = self.cut.width == len(self.cut.header)
        return f"the header names {self.cut.width}" if named else f"the others have {self.cut.width}"


def _fields(number: int) -> str:
    return f"{number} field{'' if number == 1 else 's'}"
