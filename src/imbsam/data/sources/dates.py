"""Conversion of texts to dates: days since 1970, in universal time where a time zone is given."""

from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imbsam.data.sources.numbers import matching

ISO = "ISO8601"

MONTH = r"^\d{4}-\d{1,2}$"
ISO_DATE = r"^\d{4}-\d{2}-\d{2}([ T].+)?$"
OTHER_DATE = r"^\d{1,4}[./-]\d{1,2}[./-]\d{2,4}( .+)?$"
ZONE = r"\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})$"
DURATION = r"^-?\d+ days?( [+-]?\d{2}:\d{2}:\d{2}(\.\d+)?)?$"

ORDERS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")


class AmbiguousDatesError(ValueError):
    """Dates in which the day or the month may come first."""


def date_format(words: pa.Array) -> str | None:
    """Find the format of dates.

    Args:
        words: Distinct texts, none null.

    Returns:
        ``"ISO8601"``, a format of ``strptime``, or ``None`` if one of them is not a date.

    Raises:
        AmbiguousDatesError: If in every date either the day or the month may come first.
    """
    if matching(words, ISO_DATE).all():
        return ISO if not np.isnan(days(words, ISO)).any() else None
    if not matching(words, OTHER_DATE).all():
        return None
    sample = words.slice(0, 200)
    near = [order + time for order, time in product(ORDERS, TIMES) if not np.isnan(days(sample, order + time)).any()]
    fitting = [form for form in near if not np.isnan(days(words, form)).any()]
    if len(fitting) > 1:
        raise AmbiguousDatesError
    return fitting[0] if fitting else None


def days(texts: pa.Array, form: str) -> NDArray[np.float64]:
    """Convert texts to days since 1970-01-01, NaN where null or not a date of this format; shape ``(N,)``."""
    words = pc.dictionary_encode(texts)
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    # A month alone is no date, though pandas takes its first day.
    dates = pc.if_else(pc.match_substring_regex(words.dictionary, MONTH), None, words.dictionary)
    found = pd.to_datetime(dates.to_pandas(), errors="coerce", utc=True, format=form)
    return _spread(found_days(found), words.indices)


def found_days(dates: pd.Series) -> NDArray[np.float64]:
    """Convert dates to days since 1970-01-01, NaN where missing."""
    zero = pd.Timestamp(0, tz="UTC" if dates.dt.tz is not None else None)
    # In the unit of the dates: in nanoseconds there is no date before 1677 or after 2262.
    return in_days(dates - zero.as_unit(dates.dt.unit))


def in_days(spans: pd.Series) -> NDArray[np.float64]:
    """Convert durations of any unit to days, NaN where missing."""
    # The days apart from the rest: nanoseconds since 1970 are more than a float64 tells apart.
    whole, rest = divmod(spans, pd.Timedelta(days=1))
    return np.asarray(whole, np.float64) + np.asarray(rest / pd.Timedelta(days=1), np.float64)


def spans(texts: pa.Array) -> NDArray[np.float64]:
    """Convert texts such as ``3 days 04:00:00`` to days, NaN where null or not a duration; shape ``(N,)``."""
    words = pc.dictionary_encode(texts)
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    found = pd.to_timedelta(words.dictionary.to_pandas(), errors="coerce")
    return _spread(in_days(found), words.indices)


def zones(words: pa.Array) -> bool | None:
    """Return whether dates have a time zone; ``None`` if only some have one."""
    with_zone = matching(words, ZONE)
    return bool(with_zone.all()) if with_zone.all() or not with_zone.any() else None


def _spread(of_words: NDArray[np.float64], indices: pa.Array) -> NDArray[np.float64]:
    places = np.asarray(pc.fill_null(indices, -1))
    found: NDArray[np.float64] = np.append(of_words, np.nan)[places]
    return found
