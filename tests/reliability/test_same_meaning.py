"""A random table means the same in every file: in blocks, shuffled, thinned out, in another dialect, as Parquet."""

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbsam import SharpClassifier, data
from imbsam.anomaly import sources
from imbsam.anomaly.words import LabelWords
from imbsam.data.load import load_further
from imbsam.data.sources.arrow import arrow_table
from imbsam.data.sources.dialect import Dialect
from imbsam.data.sources.kinds import float_values
from imbsam.data.sources.numbers import plain_numbers
from imbsam.data.sources.raw import Request
from imbsam.errors import DataError
from imbsam.estimators.tables import encoded_rows, learnt_columns
from reliability.made_tables import (
    FLOATS,
    Column,
    rows_of,
    tables,
    typed,
    write_parquet,
    write_text,
    write_training,
    written,
)


def read_or_ask(read: Callable[[Dialect], torch.Tensor], dialect: Dialect) -> torch.Tensor:
    """Read a file as found; where it can be read in several ways, a sentence names the option that settles it."""
    try:
        return read(Dialect())
    except DataError as error:
        if not any(option in str(error) for option in ("--separator", "--decimal", "--encoding")):
            raise
        return read(dialect)


def check_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.equal(found, expected), (found != expected).nonzero()


def features(samples: data.Samples) -> torch.Tensor:
    return samples.batch(torch.arange(len(samples)))


some_rows = st.data()


def draw_places(draw: Callable, table: dict[str, Column]) -> list[int]:
    return draw(st.lists(st.integers(0, rows_of(table) - 1), min_size=1, max_size=12))


def check_detector(table: dict[str, Column], given_data: st.DataObject, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = given_data.draw
    with TemporaryDirectory() as name:
        folder = Path(name)
        training, preprocess, _ = sources.read_training(write_training(folder, table, draw), "label", LabelWords())
        places = draw_places(draw, table)
        written = draw(st.sampled_from([write_text, write_parquet]))(folder, table, places, draw)
        monkeypatch.setattr(sources, "BLOCK", draw(st.sampled_from([1, 3, 7, 65_536])))

        def read(dialect: Dialect) -> torch.Tensor:
            request = Request(dialect=dialect)
            blocks = sources.read_further(str(written.path), preprocess, LabelWords(), request=request, notes=[])
            return torch.cat([block.rows for block in blocks])

        check_equal(read_or_ask(read, written.dialect), training.rows[places])


def check_classifier(table: dict[str, Column], given_data: st.DataObject) -> None:
    draw = given_data.draw
    with TemporaryDirectory() as name:
        folder = Path(name)
        trained = data.load(write_training(folder, table, draw), target="label", validation_fraction=0, test_fraction=0)
        places = draw_places(draw, table)
        written = draw(st.sampled_from([write_text, write_parquet]))(folder, table, places, draw)

        def read(dialect: Dialect) -> torch.Tensor:
            samples, labelled, _ = load_further(str(written.path), trained.preprocess, dialect=dialect)
            assert labelled
            assert samples.targets.tolist() == [place % 2 for place in places]
            return features(samples)

        check_equal(read_or_ask(read, written.dialect), features(trained.train)[places])


def check_frames(table: dict[str, Column], given_data: st.DataObject) -> None:
    draw = given_data.draw
    train = typed(table, range(rows_of(table)), draw)
    columns = learnt_columns(train, "auto")
    places = draw_places(draw, table)
    later = typed(table, places, draw)
    check_equal(encoded_rows(later, columns), encoded_rows(train, columns)[places])


QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=1000)


def later_features(folder: Path, train: list[str], later: list[str]) -> tuple[torch.Tensor, list[str]]:
    """What a detector gets to see of a column in a later file, and the notes."""
    for name, cells in (("train.csv", train), ("later.csv", later)):
        rows = [[str(place * (name == "train.csv")), cell, str(place % 2)] for place, cell in enumerate(cells)]
        (folder / name).write_text(written(["base", "cell", "label"], rows, ";", csv.QUOTE_ALL), encoding="utf-8")
    _, preprocess, _ = sources.read_training(str(folder / "train.csv"), "label", LabelWords())
    notes: list[str] = []
    blocks = sources.read_further(str(folder / "later.csv"), preprocess, LabelWords(), notes=notes)
    return torch.cat([block.rows for block in blocks]), notes


@given(table=tables(), given_data=some_rows)
@QUICK
def test_a_detector_reads_rows_alike_in_every_file(table, given_data, monkeypatch):
    check_detector(table, given_data, monkeypatch)


@given(table=tables(), given_data=some_rows)
@QUICK
def test_a_run_reads_rows_alike_in_every_file(table, given_data):
    check_classifier(table, given_data)


@given(table=tables(), given_data=some_rows)
@QUICK
@pytest.mark.filterwarnings("ignore::imbsam.errors.DataWarning")
def test_an_estimator_reads_rows_alike_in_every_frame(table, given_data):
    check_frames(table, given_data)


@pytest.mark.slow
@given(table=tables(), given_data=some_rows)
@LONG
def test_a_detector_reads_many_rows_alike_in_every_file(table, given_data, monkeypatch):
    check_detector(table, given_data, monkeypatch)


@pytest.mark.slow
@given(table=tables(), given_data=some_rows)
@LONG
def test_a_run_reads_many_rows_alike_in_every_file(table, given_data):
    check_classifier(table, given_data)


@pytest.mark.slow
@given(table=tables(), given_data=some_rows)
@LONG
@pytest.mark.filterwarnings("ignore::imbsam.errors.DataWarning")
def test_an_estimator_reads_many_rows_alike_in_every_frame(table, given_data):
    check_frames(table, given_data)


@given(st.lists(FLOATS | st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.integers(1, 25))
@QUICK
def test_a_number_is_what_python_reads(values, digits):
    texts = [*map(repr, values), *(f"{value:.{digits}g}" for value in values)]
    found = plain_numbers(pa.chunked_array([texts]))
    assert found.tobytes() == np.array([float(text) for text in texts]).tobytes()


NUMBERS = [str(number) for number in range(10, 40)]
DAYS = [f"2024-01-{day}" for day in range(10, 31)]
SPANS = [f"{days} days 01:00:00" for days in range(1, 31)]


@pytest.mark.parametrize(
    ("train", "later", "told"),
    [
        (DAYS, ["20240115"], "'20240115'. It held dates in training"),
        (DAYS, ["2024-01-15", "1705276800"], "'1705276800'. It held dates in training"),
        (DAYS, ["15.01.2024"], "'15.01.2024', which is not a date"),
        (DAYS, ["2024-01-15T10:00:00Z"], "time zone here, and had none"),
        ([f"{day}T00:00Z" for day in DAYS], ["2024-01-15"], "no time zone here, and had one"),
        (SPANS, ["3"], "'3'. It held durations in training"),
        (NUMBERS, ["1,234", "5"], "--decimal"),
        (NUMBERS, ["1,5", "5.5"], "--decimal"),
        (NUMBERS, ["inf"], "infinite"),
        (NUMBERS, ["1e400", "5"], "infinite"),
        (NUMBERS, ["abc"], "'abc', which is not a number"),
        (["yes", "no"] * 10, ["maybe"], "'maybe', which is not true or false"),
    ],
)
def test_what_says_something_else_is_refused(tmp_path, train, later, told):
    with pytest.raises(DataError, match=re.escape(told)):
        later_features(tmp_path, train, later)


@pytest.mark.parametrize(
    ("train", "later", "note"),
    [
        (NUMBERS, ["5", odd], f"1 value is not a number, first {odd!r} in row 2")
        for odd in ("1_000", "0x10", "\u0661\u0662", "5%", "$5", "1 234", "1,2,3", "?", "true", "12 34")
    ]
    + [
        (DAYS, ["2024-01-15", odd], f"1 value is not a date, first {odd!r} in row 2")
        for odd in ("2024-01", "2024-02-31", "0000-00-00", "soon")
    ]
    + [
        (["yes", "no"] * 10, ["no", "maybe"], "1 value is not true or false, first 'maybe' in row 2"),
        (["007", "A07"] * 10, ["007", "7"], "1 value does not occur in training"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, train, later, note):
    _, notes = later_features(tmp_path, train, later)
    assert any(note in said for said in notes)


@pytest.mark.parametrize(
    ("train", "later"),
    [
        (NUMBERS, ["20", " 20 ", "+20", "20.0", "2e1", "2E+1"]),
        ([*NUMBERS, "1\u00a0234,5", "2\u202f000,5"], ["1234,5", "1'234,5", "1.234,5", "1\u2009234,5"]),
        (["0", "1"] * 10, ["1", "1.0", "true", "YES", "on"]),
        (["0", "1", "NA"] * 10, ["1", "TRUE"]),
        (["true", "false", "?"] * 10, ["1", "TRUE", "yes", "1.0"]),
        (["A", "12", "7"] * 10, ["12", "12.0"]),
        (["A", "TRUE", "false"] * 10, ["TRUE", "True", "true"]),
        ([f"{day}.01.2024" for day in range(10, 31)], ["15.01.2024", "2024-01-15", "2024-01-15T00:00:00"]),
        ([f"{day}T00:00:00+01:00" for day in DAYS], ["2024-01-15T00:00:00+01:00", "2024-01-14T23:00:00Z"]),
    ],
)
def test_one_value_written_in_several_ways_is_one(tmp_path, train, later):
    rows, notes = later_features(tmp_path, train, later)
    assert torch.equal(rows, rows[:1].expand(rows.shape))
    assert not any("share one code" in note or "is not" in note for note in notes)


@pytest.mark.parametrize("classes", [("1", "1 "), ("0", "0.0"), ("True", "TRUE")])
def test_classes_that_say_the_same_are_refused_in_training(tmp_path, classes):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n" + "".join(f"{row},{classes[row % 2]}\n" for row in range(12)))
    with pytest.raises(DataError, match="are the same"):
        data.load(str(path), target="y")


@pytest.mark.filterwarnings("error")
def test_a_long_code_survives_a_frame_of_numbers():
    codes = pd.DataFrame({"code": ["123456789012345678", "123456789012345679"] * 8})
    classifier = SharpClassifier(max_iter=1, hidden=(2,), random_state=0).fit(codes, ["a", "b"] * 8)
    found = classifier.predict_proba(codes.astype("int64"))
    np.testing.assert_array_equal(found, classifier.predict_proba(codes))


def test_dates_with_and_without_a_zone_do_not_mix_in_a_frame():
    dates = pd.DataFrame({"at": [datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC)]}, dtype=object)
    with pytest.raises(DataError, match="'at' has dates with a time zone and others without"):
        learnt_columns(dates, "auto")


def test_a_decimal_is_the_float_that_its_digits_say():
    texts = [f"{number}.{number * 7919 % 10**9:09d}" for number in range(3, 10**15, 10**12 + 7)]
    decimals = pa.chunked_array([pa.array([Decimal(text) for text in texts], pa.decimal128(38, 9))])
    assert float_values(decimals).tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("dtype", [object, "category"])
def test_true_beside_a_number_is_not_one(dtype):
    table = arrow_table(pd.DataFrame({"mixed": pd.Series([-0.25, True, 1], dtype=object).astype(dtype)}))
    assert table.column("mixed").to_pylist()[:2] == ["-0.25", "True"]
