"""Random tables of mixed types, and the ways to write their rows."""

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from imbsam.data.sources.dialect import Dialect

MISSING = ("", "NA", "NaN", "null", "None", "<NA>", "N/A")
AMONG_NUMBERS = (*MISSING, "?", "-", "unknown", "n.a.")
TRUTHS = (("True", "False"), ("TRUE", "FALSE"), ("true", "false"), ("1", "0"), ("1.0", "0.0"))
TRUE_WORDS = (*TRUTHS, ("yes", "no"), ("Y", "N"), ("t", "f"), ("on", "off"))
TEXTS = (
    "Bus",
    "bus",
    "Größe",
    "a;b",
    "a,b",
    "a\tb",
    'say "x"',
    "x|y",
    "?",
    "-",
    " x",
    "x ",
    "NA",
    "12",
    "1e2",
    "it's",
    "two\nlines",
)
CODES = ("001", "01", "1", "10", "A07", "1E2", "0", "12", "123456789012345678")

Value = object
Spelling = Callable[[Value], str]
"""How a value is written in a file with a decimal point."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its values, and the ways to write them.

    Args:
        values: Of the rows, ``None`` where missing; the first two are there and differ.
        missing: Words for a missing value in the training file.
        train: How the training file writes it.
        later: How another may write it.
        dtypes: What it may be in Parquet or a data frame.
        comma: A decimal comma may stand for its point.
    """

    values: Sequence[Value]
    missing: Sequence[str]
    train: Spelling
    later: Sequence[Spelling]
    dtypes: Sequence[Callable[[Sequence[Value]], pd.Series]]
    comma: bool = False


def as_type(dtype: object) -> Callable[[Sequence[Value]], pd.Series]:
    return lambda values: pd.Series(list(values), dtype=dtype)


def arrow_type(kind: pa.DataType) -> Callable[[Sequence[Value]], pd.Series]:
    return as_type(pd.ArrowDtype(kind))


def unless_lossy(values: Sequence[Value]) -> pd.Series:
    if any(value is not None and abs(int(value)) > 2**53 for value in values):
        raise ValueError
    return pd.Series(list(values), dtype="float64")


def as_category(values: Sequence[Value]) -> pd.Series:
    return pd.Series(list(values), dtype=object).astype("category")


def through(change: Callable[[Value], Value], dtype: object) -> Callable[[Sequence[Value]], pd.Series]:
    return lambda values: pd.Series([None if value is None else change(value) for value in values], dtype=dtype)


@st.composite
def cells(draw: st.DrawFn, values: st.SearchStrategy, rows: int, first: Value = None) -> list[Value]:
    first = draw(values) if first is None else first
    second = draw(values.filter(lambda value: value != first))
    return [first, second, *draw(st.lists(st.none() | values, min_size=rows - 2, max_size=rows - 2))]


def as_nan(values: Sequence[Value]) -> pd.Series:
    """A column without any value, which pandas reads as numbers."""
    if any(value is not None for value in values):
        raise ValueError
    return pd.Series(np.nan, index=range(len(values)), dtype="float64")


FLOATS = st.one_of(
    st.builds(round, st.floats(-1e6, 1e6), st.integers(0, 12)),
    st.integers(-(10**6), 10**6).map(float),
    st.floats(-1e15, 1e15),
    st.floats(-1e-9, 1e-9, allow_subnormal=False),
).map(lambda value: value + 0.0)


@st.composite
def floats(draw: st.DrawFn, rows: int) -> Column:
    spellings = (repr, "{:.17g}".format, "{:+.17g}".format, " {!r} ".format, "{:.16E}".format)
    dtypes = [
        as_type("float64"),
        as_type("Float64"),
        as_type(object),
        arrow_type(pa.float64()),
        through(repr, "string"),
        through(lambda value: Decimal(repr(value)), object),
    ]
    return Column(
        draw(cells(FLOATS, rows)), AMONG_NUMBERS, draw(st.sampled_from(spellings)), spellings, dtypes, comma=True
    )


def grouped(mark: str) -> Spelling:
    return lambda value: f"{value:,}".replace(",", mark)


@st.composite
def integers(draw: st.DrawFn, rows: int) -> Column:
    small = st.integers(-100, 100)
    values = draw(cells(draw(st.sampled_from([small, st.integers(-(10**18), 10**18)])), rows))
    spellings = (str, "{:+d}".format, "{}.0".format, " {} ".format, grouped("\u00a0"), grouped("'"))
    dtypes = [as_type("Int64"), as_type(object), arrow_type(pa.int64()), unless_lossy, through(str, "string")]
    return Column(values, AMONG_NUMBERS, draw(st.sampled_from(spellings)), spellings, dtypes, comma=True)


def spelt(pair: tuple[str, str]) -> Spelling:
    return lambda value: pair[0] if value else pair[1]


BOOLEANS = [
    as_type("boolean"),
    as_type(object),
    arrow_type(pa.bool_()),
    through(int, "Int64"),
    through(float, "float64"),
]


@st.composite
def zeros_and_ones(draw: st.DrawFn, rows: int) -> Column:
    later = [spelt(pair) for pair in TRUE_WORDS]
    return Column(
        draw(cells(st.booleans(), rows)), AMONG_NUMBERS, draw(st.sampled_from(later[3:5])), later, BOOLEANS, comma=True
    )


@st.composite
def booleans(draw: st.DrawFn, rows: int) -> Column:
    later = [spelt(pair) for pair in TRUE_WORDS]
    train = draw(st.sampled_from([*later[:3], *later[5:]]))
    return Column(draw(cells(st.booleans(), rows)), AMONG_NUMBERS, train, later, BOOLEANS, comma=True)


WORDS = [as_type(object), as_type("string"), as_category, arrow_type(pa.string()), arrow_type(pa.large_string())]


@st.composite
def texts(draw: st.DrawFn, rows: int) -> Column:
    values = st.sampled_from(TEXTS) | st.text("aÄ é.0'", min_size=1, max_size=3)
    return Column(draw(cells(values, rows, "ein Wort")), MISSING, str, (str,), WORDS)


def as_integers(values: Sequence[Value]) -> pd.Series:
    if any(value is not None and str(int(value)) != value for value in values):
        raise ValueError
    return pd.Series([None if value is None else int(value) for value in values], dtype="Int64")


def as_floats(values: Sequence[Value]) -> pd.Series:
    return unless_lossy(as_integers(values).astype(object).where(lambda found: found.notna(), None))


def as_pandas_writes(value: Value) -> str:
    """Whole numbers beside an empty cell come back from pandas as 12.0."""
    return f"{value}.0" if value == str(value).lstrip("0") and str(value).isdigit() else str(value)


@st.composite
def codes(draw: st.DrawFn, rows: int) -> Column:
    values = draw(cells(st.sampled_from(CODES), rows, "001"))
    return Column(values, MISSING, str, (str, as_pandas_writes), [*WORDS, as_integers, as_floats])


@st.composite
def mixed(draw: st.DrawFn, rows: int) -> Column:
    values = draw(cells(st.sampled_from(["b", 7, 12, 2.5, -0.25, True, False]), rows, "a"))
    return Column(values, MISSING, str, (str,), [as_type(object), through(str, "category"), through(str, "string")])


def in_zone(hours: int) -> Spelling:
    return lambda value: value.astimezone(timezone(timedelta(hours=hours))).isoformat()


STAMPS = [as_type(f"datetime64[{unit}]") for unit in ("us", "ns")]
STAMPS += [arrow_type(pa.timestamp("us")), as_type(object), through(datetime.isoformat, "string")]
DAY_STAMPS = [*STAMPS, as_type("datetime64[s]"), as_type("datetime64[ms]"), arrow_type(pa.date32())]
ZONED = [as_type("datetime64[us, UTC]"), as_type("datetime64[ns, Europe/Berlin]"), as_type(object)]
FORMS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d")


@st.composite
def dates(draw: st.DrawFn, rows: int) -> Column:
    moment = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
    near = st.integers(0, 999).map(lambda micros: datetime(2024, 2, 29, 23, 59, 59, 999_000 + micros))
    which = draw(st.sampled_from(["iso", "zoned", "form"]))
    if which == "form":
        train = draw(st.sampled_from(FORMS))
        days = moment.map(lambda value: datetime(value.year, value.month, value.day))
        later = (lambda value: value.strftime(train), "{:%Y-%m-%d}".format, "{:%Y-%m-%dT00:00}".format)
        return Column(draw(cells(days, rows, datetime(2024, 1, 31))), AMONG_NUMBERS, later[0], later, DAY_STAMPS)
    if which == "iso":
        later = (datetime.isoformat, str)
        return Column(
            draw(cells(draw(st.sampled_from([moment, near])), rows)),
            AMONG_NUMBERS,
            draw(st.sampled_from(later)),
            later,
            STAMPS,
        )
    later = (in_zone(0), in_zone(2), in_zone(-5), lambda value: value.isoformat().replace("+00:00", "Z"))
    aware = draw(cells(draw(st.sampled_from([moment, near])).map(lambda value: value.replace(tzinfo=UTC)), rows))
    return Column(aware, AMONG_NUMBERS, draw(st.sampled_from(later)), later, ZONED)


@st.composite
def durations(draw: st.DrawFn, rows: int) -> Column:
    spans = st.timedeltas(timedelta(-400), timedelta(400))
    spelling = lambda value: str(pd.Timedelta(value))  # noqa: E731
    dtypes = [as_type("timedelta64[us]"), as_type("timedelta64[ns]"), as_type(object), arrow_type(pa.duration("us"))]
    return Column(draw(cells(spans, rows)), AMONG_NUMBERS, spelling, (spelling,), dtypes)


COLUMNS = (floats, integers, zeros_and_ones, booleans, texts, codes, mixed, dates, durations)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Column]:
    rows = draw(st.integers(3, 9))
    return {
        f"{place} {kind.__name__}": draw(kind(rows))
        for place, kind in enumerate(draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4)))
    }


def rows_of(table: dict[str, Column]) -> int:
    return len(next(iter(table.values())).values)


@dataclass(frozen=True)
class Written:
    """A file, and the dialect it was written in."""

    path: Path
    dialect: Dialect


def written(header: Sequence[str], rows: Sequence[Sequence[str]], separator: str, quoting: int) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\n")
    writer.writerows([header, *rows])
    return out.getvalue()


def write_training(folder: Path, table: dict[str, Column], draw: Callable) -> str:
    """The training file: a column ``place`` that tells all rows apart, the table, and labels."""
    columns = [[str(row) for row in range(rows_of(table))]]
    for column in table.values():
        mark = draw(st.sampled_from(column.missing))
        columns.append([mark if value is None else column.train(value) for value in column.values])
    columns.append([str(row % 2) for row in range(rows_of(table))])
    path = folder / "training.csv"
    text = written(["place", *table, "label"], list(zip(*columns, strict=True)), ",", csv.QUOTE_MINIMAL)
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def write_text(folder: Path, table: dict[str, Column], places: Sequence[int], draw: Callable) -> Written:
    """Some rows in another dialect: other spellings, columns in another order, and one more."""
    separator = draw(st.sampled_from(",;\t|"))
    decimal = draw(st.sampled_from(".,")) if separator != "," else "."
    columns = {"place": [str(place) for place in places], "more": ["m"] * len(places)}
    columns["label"] = [str(place % 2) for place in places]
    for name, column in table.items():
        spelling = draw(st.sampled_from(column.later))
        mark = draw(st.sampled_from(column.missing if column.train is spelling else MISSING))
        texts = [mark if column.values[place] is None else spelling(column.values[place]) for place in places]
        columns[name] = [text.replace(".", decimal) if column.comma and text != mark else text for text in texts]
    order = draw(st.permutations(list(columns)))
    rows = list(zip(*(columns[name] for name in order), strict=True))
    text = written(order, rows, separator, draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    if draw(st.booleans()):
        text = f"sep={separator}\n{text}"
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    path = folder / draw(st.sampled_from(["later.csv", "later.tsv", "later.csv.gz"]))
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return Written(path, Dialect(separator=separator, decimal=decimal, encoding=encoding))


def typed(
    table: dict[str, Column], places: Sequence[int], draw: Callable, check: Callable[[pd.Series], object] = len
) -> pd.DataFrame:
    """Some rows as a data frame, each column in one of the types that can hold it, and that pass the check."""
    columns = {"place": pd.Series(list(places)), "label": pd.Series([place % 2 for place in places])}
    for name, column in table.items():
        values = [column.values[place] for place in places]
        possible = []
        for made in (*column.dtypes, as_nan):
            with suppress(ValueError, TypeError):
                series = made(values)
                check(series)
                possible.append(series)
        columns[name] = draw(st.sampled_from(possible))
    return pd.DataFrame({name: columns[name] for name in draw(st.permutations(list(columns)))})


def check_parquet(series: pd.Series) -> None:
    """Refuse a column that is no column of Parquet, or another one: pandas writes True beside 0.5 as 1.0."""
    found = pa.Array.from_pandas(series)
    if pa.types.is_floating(found.type) and any(isinstance(value, bool) for value in series):
        raise ValueError


def write_parquet(folder: Path, table: dict[str, Column], places: Sequence[int], draw: Callable) -> Written:
    path = folder / "later.parquet"
    typed(table, places, draw, check_parquet).to_parquet(
        path, index=False, row_group_size=draw(st.sampled_from([1, 2, 100]))
    )
    return Written(path, Dialect())
