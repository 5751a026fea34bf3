"""Reading of a column's cells by its type."""

import decimal
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from imbsam.data.sources.dates import ISO, days, found_days, in_days, spans, zones
from imbsam.data.sources.kinds import TRUTH, WORDS, ColumnType, UnfitError, float_values, is_text, odd_name
from imbsam.data.sources.numbers import GRAMMAR, Decimal, is_number, matching, numbers, plain_numbers


@dataclass(frozen=True)
class Cells:
    """Values of a column.

    Args:
        values: float64, NaN where missing (dates and durations in days); or texts as categories.
        unreadable: Cells that are neither missing nor a value of the column's kind, shape ``(N,)``.
    """

    values: "NDArray[np.float64] | pd.Categorical"
    unreadable: NDArray[np.bool_]


@dataclass(frozen=True)
class Reader:
    """Format of the cells in a source.

    Args:
        missing: Words for a missing value.
        decimal: Function that finds the decimal mark of numbers in text, called when it is needed.
    """

    missing: Collection[str]
    decimal: Callable[[], Decimal]

    def read(self, column: pa.ChunkedArray, kind: ColumnType) -> Cells:
        """Read a column.

        Raises:
            UnfitError: If the column has another type than in training, or its numbers are written in two ways.
        """
        if pt.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if not is_text(column.type) and _is_empty(column):
            column = pa.chunked_array([pa.nulls(len(column), pa.string())])
        if kind.kind == "text":
            return self._text(column)
        return self._from_text(column, kind) if is_text(column.type) else self._typed(column, kind)

    def _text(self, column: pa.ChunkedArray) -> Cells:
        encoded = column.combine_chunks().dictionary_encode()
        plain = is_text(column.type)
        words = [
            None if value is None or value != value or (plain and value in self.missing) else value_text(value)
            for value in encoded.dictionary.to_pylist()
        ]
        return Cells(_categories(words, encoded.indices), np.zeros(len(column), bool))

    def _from_text(self, texts: pa.ChunkedArray, kind: ColumnType) -> Cells:
        if kind.kind == "number" and (found := plain_numbers(texts)) is not None and self._plain(texts):
            return Cells(self._without_missing(found), np.zeros(len(texts), bool))
        known = pc.utf8_trim_whitespace(texts.combine_chunks())
        gone = pa.array([*self.missing, *kind.marks], known.type)
        known = pc.if_else(pc.is_in(known, gone), pa.scalar(None, known.type), known)
        match kind.kind:
            case "number":
                return self._number(known, kind)
            case "boolean":
                return _truths(known)
            case "date":
                return _dates(known, kind)
            case _:
                _refuse_numbers(known, "durations", "3 days 04:00:00")
                return _unless_nan(spans(known), known)

    def _plain(self, texts: pa.ChunkedArray) -> bool:
        """Return whether a point, if there is one, is the decimal mark."""
        has_point = any(pc.any(pc.match_substring(part, ".")).as_py() for part in (texts.slice(0, 1024), texts))
        return not has_point or self.decimal() == "."

    def _number(self, texts: pa.Array, kind: ColumnType) -> Cells:
        decimal = self.decimal()
        values, unreadable = numbers(texts, decimal)
        if kind.truths:
            said = _truths(texts)
            values = np.where(unreadable & ~said.unreadable, _floats(said), values)
            unreadable &= said.unreadable
        other: Decimal = "," if decimal == "." else "."
        wrong = unreadable & matching(texts, GRAMMAR[other])
        if wrong.any():
            place = int(wrong.argmax())
            raise UnfitError(
                f"holds {texts[place].as_py()!r}, but the decimal mark of this file is {decimal!r}. Write all numbers "
                "the same way, or say --decimal",
                place,
            )
        return Cells(self._without_missing(values), unreadable)

    def _without_missing(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        for word in self.missing:
            if (number := plain_number(word)) is not None:
                values = np.where(values == number, np.nan, values)
        return values

    def _typed(self, column: pa.ChunkedArray, kind: ColumnType) -> Cells:
        found = column.type
        is_real = pt.is_integer(found) or pt.is_floating(found) or pt.is_decimal(found)
        readable = np.zeros(len(column), bool)
        if kind.kind == "number" and (is_real or (pt.is_boolean(found) and kind.truths)):
            return Cells(self._without_missing(float_values(column)), readable)
        if kind.kind == "boolean" and (is_real or pt.is_boolean(found)):
            values = float_values(column)
            odd = ~np.isnan(values) & (values != 0) & (values != 1)
            return Cells(_truth_categories(np.where(odd | np.isnan(values), -1, values).astype(np.int64)), odd)
        if kind.kind == "date" and (pt.is_timestamp(found) or pt.is_date(found)):
            zoned = pt.is_timestamp(found) and found.tz is not None
            _check_zone(zoned, kind)
            unit = found if pt.is_timestamp(found) else pa.timestamp("s")
            return Cells(found_days(pd.Series(pc.cast(column, unit).to_pandas())), readable)
        if kind.kind == "duration" and pt.is_duration(found):
            return Cells(in_days(column.to_pandas()), readable)
        raise UnfitError(f"was {WORDS[kind.kind]} in training, and holds {odd_name(found)} values here")


def _is_empty(column: pa.ChunkedArray) -> bool:
    """Return whether all values are missing, so that the type says nothing: pandas reads such a column as numbers."""
    return bool(pc.all(pc.is_null(column, nan_is_null=True)).as_py())


def plain_number(word: str) -> float | None:
    """Return the number that a word stands for, if it is one."""
    try:
        number = float(word)
    except ValueError:
        return None
    return None if np.isnan(number) else number


def meaning(name: str) -> str:
    """Return the meaning of a label: ``1.0`` and ``1`` with a space are ``1``, ``TRUE`` is ``true``; ``01`` is kept."""
    name = name.strip()
    whole = re.fullmatch(r"(-?(?:0|[1-9]\d*))(?:\.0+)?", name)
    return whole[1] if whole else name.lower() if name.lower() in ("true", "false") else name


def value_text(value: object) -> str:
    """Return the name of a category or class: whole numbers without a fraction, so that 1 and 1.0 are the same."""
    if isinstance(value, decimal.Decimal) and value.is_finite():
        value = int(value) if value == int(value) else float(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def texts_of(column: pa.ChunkedArray, missing: Collection[str] = ()) -> list[str | None]:
    """Return cells as their text in the file: a class, a label, the name of a row.

    Args:
        column: Cells of a column.
        missing: Words for a missing value.

    Returns:
        One text for each cell, ``None`` where missing; whole numbers of a numeric type have no fraction.
    """
    if pt.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    words = [
        None if value is None or value != value or value in missing else value_text(value)
        for value in encoded.dictionary.to_pylist()
    ]
    found: list[str | None] = np.array([*words, None], object)[np.asarray(pc.fill_null(encoded.indices, -1))].tolist()
    return found


def _categories(words: list[str | None], indices: pa.Array) -> "pd.Categorical":
    """Return texts as categories; some words may be the same, or None."""
    different = sorted({word for word in words if word is not None})
    place = {word: number for number, word in enumerate(different)}
    code = np.array([-1 if word is None else place[word] for word in words] + [-1])
    return pd.Categorical.from_codes(
        code[np.asarray(pc.fill_null(indices, -1))], categories=pd.Index(different, dtype=object)
    )


def _truth_categories(codes: NDArray[np.int64]) -> "pd.Categorical":
    return pd.Categorical.from_codes(codes, categories=pd.Index(["False", "True"], dtype=object))


def _truths(texts: pa.Array) -> Cells:
    encoded = texts.dictionary_encode()
    said = [TRUTH.get(word.lower(), -2) for word in encoded.dictionary.to_pylist()]
    codes = np.array([*said, -1])[np.asarray(pc.fill_null(encoded.indices, -1))]
    return Cells(_truth_categories(np.maximum(codes, -1)), codes == -2)


def _floats(truths: Cells) -> NDArray[np.float64]:
    codes = np.asarray(truths.values.codes, np.float64)  # type: ignore[union-attr]
    return np.where(codes < 0, np.nan, codes)


def _dates(texts: pa.Array, kind: ColumnType) -> Cells:
    _refuse_numbers(texts, "dates", "2024-01-31")
    found = days(texts, kind.form)
    if kind.form != ISO:
        found = np.where(np.isnan(found), days(texts, ISO), found)
    written = pc.drop_null(texts.filter(pa.array(~np.isnan(found))))
    zoned = zones(written)
    if len(written):
        if zoned is None:
            raise UnfitError("has dates with a time zone and others without")
        _check_zone(zoned, kind)
    return _unless_nan(found, texts)


def _refuse_numbers(texts: pa.Array, held: str, example: str) -> None:
    numeric = is_number(texts)
    if numeric.any():
        place = int(numeric.argmax())
        raise UnfitError(
            f"holds {texts[place].as_py()!r}. It held {held} in training, but a number is not a {held} as in "
            f"training, or as {example}",
            place,
        )


def _check_zone(zoned: bool, kind: ColumnType) -> None:
    if zoned != kind.zoned:
        here, there = ("a", "none") if zoned else ("no", "one")
        raise UnfitError(f"has dates with {here} time zone here, and had {there} in training")


def _unless_nan(values: NDArray[np.float64], texts: pa.Array) -> Cells:
    return Cells(values, np.isnan(values) & np.asarray(pc.is_valid(texts)))
