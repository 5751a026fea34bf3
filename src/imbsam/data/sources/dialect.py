"""Dialect of a text table: its separator, decimal mark and encoding, given by the user or detected."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from imbsam.errors import OptionError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space"}
GUESSED = ",;\t|"
_WORDS = {word: mark for mark, word in SEPARATORS.items()} | {r"\t": "\t"}
_NO_SEPARATOR = re.compile(r"(?<=\d),(?=\d)|[,;|] ")


@dataclass(frozen=True)
class Dialect:
    """Format of a text table; what is None is detected from the file.

    Args:
        separator: The character between two cells, or its name: comma, semicolon, tab, pipe or space.
        decimal: The mark before a number's fraction.
        encoding: Python's name of the encoding, such as ``utf-8``, ``cp1252`` or ``utf-16``.
        missing: Texts that stand for a missing value besides the empty cell; ``"auto"`` stands for the usual ones.

    Raises:
        OptionError: If the separator or the encoding is not valid.
    """

    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ("auto",)

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise OptionError(f"decimal must be '.' or ','; got {self.decimal!r}.")
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.separator is not None:
            separator = _WORDS.get(self.separator.lower(), self.separator)
            _check_separator(separator, self.decimal)
            object.__setattr__(self, "separator", separator)


AS_FOUND = Dialect()
"""Dialect in which everything is to be detected."""


def separator_name(separator: str) -> str:
    """Return the name of a separator, such as ``semicolon``."""
    return SEPARATORS.get(separator, repr(separator))


def separators_name(separator: str) -> str:
    """Return the plural of a separator's name, such as ``semicolons``."""
    return f"{SEPARATORS[separator]}s" if separator in SEPARATORS else f"the character {separator!r}"


@dataclass(frozen=True)
class Cut:
    """First records of a text, cut by one separator.

    Args:
        separator: The separating character.
        header: The fields of the header.
        rows: The fields of each row.
        before: Number of lines before the first row: those of the header and blank ones.
    """

    separator: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    before: int

    @property
    def width(self) -> int:
        """Number of fields of a row: that of the header, or one more or less if rows or header end in a separator."""
        names = len(self.header)
        counts = Counter(len(row) for row in self.rows)
        possible = [names, names + 1] if self.header[-1] else [names, names + 1, names - 1]
        return max(possible, key=lambda width: counts[width] if width else 0)

    @property
    def share(self) -> float:
        """Share of the rows with the usual number of fields, halved if the header names too few."""
        width = self.width
        fitting = [row for row in self.rows if len(row) == width]
        nameless = any(row[len(self.header) :] not in ([], [""]) for row in fitting)
        return len(fitting) / max(len(self.rows), 1) / (2 if nameless else 1)

    def clean(self, others: str) -> bool:
        """Return whether no cell contains one of the ``others``, except as a decimal comma or before a space."""
        cells = (_NO_SEPARATOR.sub("", cell) for row in self.rows for cell in row)
        return not any(mark in cell for cell in cells for mark in others)


def cut(lines: Iterable[str], separator: str, *, whole: bool) -> Cut | None:
    """Cut the first lines of a text into records; blank lines are left out.

    Args:
        lines: Lines of the text with their ends.
        separator: The separating character.
        whole: Whether these are all lines.

    Returns:
        The records; None if there is no header, or its end is missing.
    """
    found: list[list[str]] = []
    before = 0
    with _long_cells():
        # The last record is left out, as it may be half a one: of a whole text it is the mark after its end.
        reader = csv.reader([*lines, "\n", "\0"] if whole else lines, delimiter=separator)
        for fields in reader:
            before = before if found else reader.line_num
            found.extend([fields] if fields else [])
    return Cut(separator, found[0], found[1:-1], before) if len(found) > 1 else None


def best_cuts(lines: Sequence[str], own: str | None, *, whole: bool) -> list[Cut]:
    """Return the cuts that fit header and rows best: one, several that fit equally, or none if nothing is cut.

    A separator that does not occur in the header separates nothing.

    Args:
        lines: The first lines.
        own: The separator that belongs to the file's ending.
        whole: Whether these are all lines.
    """
    cuts = [found for mark in GUESSED if (found := cut(lines, mark, whole=whole)) and len(found.header) > 1]
    cuts = [found for found in cuts if found.share or found.separator == own or not found.rows]
    marks = "".join(found.separator for found in cuts)
    fits = [(found.share, found.clean(marks.replace(found.separator, ""))) for found in cuts]
    return [found for found, fit in zip(cuts, fits, strict=True) if fit == max(fits)]


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError) as error:
        raise OptionError(
            f"encoding {encoding!r} is unknown. Usual ones are utf-8, utf-16, cp1252 and latin-1."
        ) from error


def _check_separator(separator: str, decimal: str | None) -> None:
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
        raise OptionError(
            f"separator must be one ASCII character other than the quote, or one of {', '.join(_WORDS)}; "
            f"got {separator!r}."
        )
    if separator == decimal:
        raise OptionError(f"separator and decimal are both {separator!r}. Name two different marks.")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the csv module's limit on the length of a cell, which holds for the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
