"""Types of columns, learned from the training rows: number, truth value, date, duration, or text."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from imbsam.data.sources.dates import DURATION, ISO, AmbiguousDatesError, date_format, zones
from imbsam.data.sources.numbers import CODE, MARKS, MISSING, is_number, matching, plain_numbers

Kind = Literal["number", "boolean", "date", "duration", "text"]

WORDS: dict[Kind, str] = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date",
    "duration": "a duration",
    "text": "a text",
}
"""Name of a value of each kind in messages."""

TRUTHS = ({"true": 1, "false": 0}, {"t": 1, "f": 0}, {"yes": 1, "no": 0}, {"y": 1, "n": 0}, {"on": 1, "off": 0})
"""Pairs of words, in lower case, for true and false."""

BITS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "1,0": 1, "0,0": 0}
"""Numbers that stand for true and false."""

TRUTH = {word: value for pair in TRUTHS for word, value in pair.items()} | BITS
"""Each of these words and numbers, and its truth value."""

MOSTLY, MEASURED, FEW = 0.9, 20, 5
"""Share of numbers, count of distinct numbers, and count of other words at which these words count as missing."""


class UnfitError(ValueError):
    """Column that cannot be read.

    Args:
        message: Reason, to be put after the column's name.
        place: Index of the first row that shows it.
    """

    def __init__(self, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class ColumnType:
    """Type of a column.

    Args:
        name: Name of the column.
        kind: Kind of its values.
        form: Format of its dates in a text file: ``"ISO8601"`` or a format of ``strptime``.
        zoned: Whether its dates have a time zone.
        marks: Words for a missing value besides the usual ones.
        truths: Whether it is a number with only 0 and 1, so that true and false count as these.
    """

    name: str
    kind: Kind
    form: str = ISO
    zoned: bool = False
    marks: tuple[str, ...] = ()
    truths: bool = False


def text_type(name: str, texts: pa.ChunkedArray, missing: Collection[str], *, guess: bool) -> tuple[ColumnType, str]:
    """Find the type of a column of a text file.

    Args:
        name: Name of the column.
        texts: Its cells, null where empty.
        missing: Words for a missing value.
        guess: Whether other usual words for a missing value count among numbers and dates.

    Returns:
        The type, and a note on it; "" for no note.

    Raises:
        UnfitError: If the column can be read in several ways.
    """
    values = plain_numbers(texts)
    if values is not None:
        if _has_codes(texts, values):
            return ColumnType(name, "text"), CODES
        return ColumnType(name, "number", truths=_truths(values)), ""
    every, counts = _distinct(texts, missing)
    lower = [word.lower() for word in every.to_pylist()]
    number = is_number(every)
    mark = np.array([guess and word in MARKS for word in lower], bool) & ~number
    marks = tuple(every.filter(pa.array(mark)).to_pylist())
    said = (
        f"{listed_words(marks)} in {int(counts[mark].sum())} of {len(texts)} rows counts as missing." if marks else ""
    )
    words = every.filter(pa.array(~mark))
    if number.any() and matching(every.filter(pa.array(number)), CODE).any():
        return ColumnType(name, "text"), CODES if number.all() else ""
    if len(words) and number[~mark].all():
        return ColumnType(name, "number", marks=marks, truths=set(words.to_pylist()) <= BITS.keys()), said
    if not len(words) and not marks:
        return ColumnType(name, "number"), ""
    if _are_truths(words):
        return ColumnType(name, "boolean", marks=marks), said
    return _other_type(ColumnType(name, "text"), words, marks, said) or _mixed(name, every, counts, number | mark)


CODES = "it holds codes with leading zeros; read as text."


def listed_words(words: Collection[str]) -> str:
    """Return some of the words, in quotes."""
    shown = ", ".join(repr(word) for word in list(words)[:FEW])
    return shown if len(words) <= FEW else f"{shown} and {len(words) - FEW} more"


def _distinct(texts: pa.ChunkedArray, missing: Collection[str]) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct words, trimmed, that are not missing, and how often each occurs."""
    found = pc.value_counts(pc.utf8_trim_whitespace(texts.combine_chunks())).flatten()
    words, counts = found[0], np.asarray(found[1])
    kept = np.asarray(pc.and_kleene(pc.is_valid(words), pc.invert(pc.is_in(words, pa.array(missing, words.type)))))
    return words.filter(pa.array(kept)), counts[kept]


def _has_codes(texts: pa.ChunkedArray, values: NDArray[np.float64]) -> bool:
    """Return whether a text begins with a zero that no number would have."""
    zero = np.asarray(pc.fill_null(pc.or_(pc.starts_with(texts, "0"), pc.starts_with(texts, "-0")), False))
    suspicious = zero & ((np.abs(values) >= 1) | (values == 0))
    if not suspicious.any():
        return False
    return bool(matching(pc.unique(texts.filter(pa.array(suspicious))), CODE).any())


def _truths(values: NDArray[np.float64]) -> bool:
    known = values[~np.isnan(values)]
    return bool(len(known)) and bool(((known == 0) | (known == 1)).all())


def _are_truths(words: pa.Array) -> bool:
    """Return whether words mean true or false, including numbers that do."""
    lower = {word.lower() for word in words.to_pylist()} - BITS.keys()
    return any(lower and lower <= pair.keys() for pair in TRUTHS)


def _other_type(text: ColumnType, words: pa.Array, marks: tuple[str, ...], said: str) -> tuple[ColumnType, str] | None:
    """Return the type of dates or durations; ``None`` if the words are neither."""
    if not len(words):
        return None
    if matching(words, DURATION).all():
        return replace(text, kind="duration", marks=marks), said
    try:
        form = date_format(words)
    except AmbiguousDatesError:
        column = shlex.quote(text.name)
        raise UnfitError(
            f"holds dates in which the day or the month may come first, such as {words[0].as_py()!r}. Write them as "
            f"2024-01-31; or say that they are text (--text {column}), or leave the column out (--ignore {column})"
        ) from None
    if form is None:
        return None
    zoned = zones(words)
    if zoned is None:
        raise UnfitError("has dates with a time zone and others without. Write all with one, or all without")
    return replace(text, kind="date", form=form, zoned=zoned, marks=marks), said


def _mixed(name: str, words: pa.Array, counts: NDArray[np.int64], known: NDArray[np.bool_]) -> tuple[ColumnType, str]:
    """Return text, or refuse a column of numbers with a few other words, which the user has to decide."""
    number = is_number(words)
    others = words.filter(pa.array(~known)).to_pylist()
    if not number.any() or not others:
        return ColumnType(name, "text"), ""
    share = counts[number].sum() / counts.sum()
    if share >= MOSTLY and number.sum() >= MEASURED and len(others) <= FEW:
        missing, column = shlex.join(others), shlex.quote(name)
        raise UnfitError(
            f"holds numbers, {100 * share:.1f} % of its values, and other words, {listed_words(others)}. If these mean "
            f"that the number is missing: --missing auto {missing}; if the column is text: --text {column}; or leave "
            f"it out: --ignore {column}"
        )
    return ColumnType(name, "text"), f"it holds numbers and other words ({listed_words(others)}); read as text."


def typed_type(name: str, column: pa.ChunkedArray, missing: Collection[str] = MISSING) -> ColumnType:
    """Find the type of a column with typed values, in a Parquet file or a data frame.

    Args:
        name: Name of the column.
        column: Its values.
        missing: Words for a missing value.

    Raises:
        UnfitError: If its values cannot be a feature, such as lists.
    """
    kind = column.type
    if pt.is_dictionary(kind):
        return ColumnType(name, "text")
    if is_text(kind):
        return _typed_text(name, column, missing)
    if pt.is_boolean(kind):
        return ColumnType(name, "boolean")
    if pt.is_null(kind):
        return ColumnType(name, "number")
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind):
        return ColumnType(name, "number", truths=_truths(float_values(column)))
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return ColumnType(name, "date", zoned=pt.is_timestamp(kind) and kind.tz is not None)
    if pt.is_duration(kind):
        return ColumnType(name, "duration")
    raise UnfitError(
        f"holds {odd_name(kind)} values, which cannot be a feature. Leave it out: --ignore {shlex.quote(name)}"
    )


def _typed_text(name: str, column: pa.ChunkedArray, missing: Collection[str]) -> ColumnType:
    """Return text, or dates or truth values if all are: data frames and Parquet files often store these as text."""
    words, _ = _distinct(column, missing)
    if _are_truths(words):
        return ColumnType(name, "boolean")
    try:
        found = _other_type(ColumnType(name, "text"), words, (), "")
    except UnfitError:
        found = None
    return found[0] if found else ColumnType(name, "text")


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of this type are texts."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def odd_name(kind: pa.DataType) -> str:
    """Return the name of a type of values that cannot be a feature."""
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name)
    if pt.is_nested(kind):
        return "list" if not pt.is_struct(kind) else "struct"
    return "binary" if pt.is_binary(kind) or pt.is_large_binary(kind) else str(kind)


def float_values(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert numbers to float64, NaN where null."""
    if pt.is_decimal(column.type):
        column = pc.cast(column, pa.string())  # From decimal to float64 Arrow is off by the last bit.
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), np.float64)
