"""Dialects: how a text table is written, as asked for or as its first rows tell."""

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
    """How a text table is written; what is None is told by the file itself.

    Args:
        separator: The character between two cells, or its name: comma, semicolon, tab, pipe or space.
        decimal: The mark before a number's fraction.
        encoding: As Python names it, such as ``utf-8``, ``cp1252`` or ``utf-16``.
        missing: The texts that stand for a missing value beside the empty cell; ``"auto"`` stands for the usual ones.

    Raises:
        OptionError: If the separator or the encoding cannot be.
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
"""Nothing is known beforehand."""


def separator_name(separator: str) -> str:
    """What a separator is called, as in ``semicolon``."""
    return SEPARATORS.get(separator, repr(separator))


def separators_name(separator: str) -> str:
    """What several of a separator are called, as in ``semicolons``."""
    return f"{SEPARATORS[separator]}s" if separator in SEPARATORS else f"the character {separator!r}"


@dataclass(frozen=True)
class Cut:
    """The first records of a text, cut by one separator.

    Args:
        separator: The character that cuts.
        header: The fields of the header.
        rows: The fields of each row.
        before: How many lines stand before the first row: those of the header and blank ones.
    """

    separator: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    before: int

    @property
    def width(self) -> int:
        """Fields of a row: those of the header; one more or less where most rows, or the header, end in a separator."""
        names = len(self.header)
        counts = Counter(len(row) for row in self.rows)
        possible = [names, names + 1] if self.header[-1] else [names, names + 1, names - 1]
        return max(possible, key=lambda width: counts[width] if width else 0)

    @property
    def share(self) -> float:
        """The share of the rows that have the usual number of fields; half of it where the header names too few."""
        width = self.width
        fitting = [row for row in self.rows if len(row) == width]
        nameless = any(row[len(self.header) :] not in ([], [""]) for row in fitting)
        return len(fitting) / max(len(self.rows), 1) / (2 if nameless else 1)

    def clean(self, others: str) -> bool:
        """Return whether no cell holds one of the ``others``, but as a decimal comma or before a space."""
        cells = (_NO_SEPARATOR.sub("", cell) for row in self.rows for cell in row)
        return not any(mark in cell for cell in cells for mark in others)


def cut(lines: Iterable[str], separator: str, *, whole: bool) -> Cut | None:
    """Cut a text's first lines; blank lines are left out.

    Args:
        lines: Its lines with their ends.
        separator: The character that cuts.
        whole: Whether these are all lines.

    Returns:
        The records; None where there is no header, or no end of it.
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
    """The cuts that fit header and rows best: one, several that fit equally, or none where nothing is cut.

    The header counts: a separator that does not stand in it separates nothing.

    Args:
        lines: The first lines.
        own: The separator that the file's ending stands for.
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
    """Lift the csv module's limit on the length of a cell, which is the whole process's."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
