"""Conversion of texts to numbers: decimal marks, thousands marks, words for a missing number."""

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Decimal = Literal[".", ","]

_OF_PANDAS = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null|"
MISSING = frozenset(_OF_PANDAS.split("|"))
"""Cells that count as empty in any column: no text at all, and the words that pandas takes for missing."""

_AMONG_NUMBERS = (
    ""
    ""
    "?|-|--|---|–|—|.|..|...|*|/|_|na|nan|n.a.|n.a|n/a|n/d|nd|k.a.|nil|nul|null|none|undefined|undef|unknown|unk|missing"
    "|not available|not known|not applicable|not recorded|no data|nodata|no value|empty|blank|void|tbd|(null)|(missing)"
    "|(unknown)|#value!|#div/0!|#ref!|#num!|#name?|#null!"
)
MARKS = frozenset(_AMONG_NUMBERS.split("|"))
"""Words, in lower case, that stand for a missing number among numbers or a missing date among dates."""

SLICE = 4096
"""Number of rows that are searched for a decimal mark at a time."""


GROUPING = "\u00a0\u202f\u2009'\u2019"
"""Non-breaking spaces and apostrophes, which may separate thousands with either decimal mark."""


def _grammar(decimal: str, thousands: str) -> str:
    point = re.escape(decimal)
    groups = "|".join(rf"(?:{group}\d{{3}})+" for group in (re.escape(thousands), *GROUPING))
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{groups}))"
    number = rf"(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
    return rf"^[+-]?(?:{number}|[iI]nf|INF|[iI]nfinity)$"


GRAMMAR: dict[Decimal, str] = {".": _grammar(".", ","), ",": _grammar(",", ".")}
"""Pattern of a number with each decimal mark; the other mark may separate its thousands."""

CODE = r"^[+-]?0\d"
"""Pattern of a code in digits: unlike a number it begins with a zero."""


def matching(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Return which texts match a regular expression of RE2, shape ``(N,)``; a null does not."""
    found = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    return np.asarray(found)


def is_number(texts: pa.Array) -> NDArray[np.bool_]:
    """Return which texts are numbers with either decimal mark, shape ``(N,)``."""
    return matching(texts, GRAMMAR["."]) | matching(texts, GRAMMAR[","])


def decimal_mark(columns: Iterable[pa.ChunkedArray]) -> tuple[Decimal | None, bool]:
    """Find the decimal mark of numbers.

    ``1,5`` can have a comma alone, ``0.5`` a point alone; ``12`` and ``1,234`` leave it open.

    Args:
        columns: Texts; those that are not numbers are ignored. They are read up to the first that decides.

    Returns:
        The mark, ``None`` if no number decides it; and whether a number with a comma occurred that leaves it open.
    """
    is_open = False
    for column in columns:
        for start in range(0, len(column), SLICE):
            texts = pc.utf8_trim_whitespace(column.slice(start, SLICE))
            texts = texts.filter(pc.match_substring_regex(texts, "[.,]"))
            point, comma = matching(texts, GRAMMAR["."]), matching(texts, GRAMMAR[","])
            decided = np.flatnonzero(point != comma)
            if len(decided):
                return ("." if point[decided[0]] else ","), False
            is_open |= bool(np.asarray(pc.match_substring(texts, ","))[point & comma].any())
    return None, is_open


def marks_in(texts: pa.ChunkedArray) -> int:
    """Count the texts that stand for a missing value."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return int(pc.sum(pc.is_in(lower, pa.array(MARKS, lower.type))).as_py())


def plain_numbers(texts: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """Convert plain texts (at most a point, no thousands, no space) to numbers, NaN where null. Else ``None``."""
    try:
        return np.asarray(pc.cast(texts, pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:
        return None


def numbers(texts: pa.ChunkedArray, decimal: Decimal) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert texts to numbers.

    Args:
        texts: Trimmed texts; null where missing.
        decimal: The decimal mark; the other mark may separate thousands.

    Returns:
        Values, float64, NaN where missing or unreadable; and which are unreadable, each of shape ``(N,)``.
    """
    readable = matching(texts, GRAMMAR[decimal])
    kept = pc.if_else(pa.array(readable), texts, pa.scalar(None, texts.type))
    kept = pc.replace_substring_regex(kept, f"[{GROUPING}{',' if decimal == '.' else '.'}]", "")
    kept = pc.utf8_ltrim(pc.replace_substring(kept, decimal, "."), "+")
    values = np.asarray(pc.cast(kept, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    return values, ~readable & np.asarray(pc.is_valid(texts))
