import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbsam.data.sources.dates import (
    ISO,
    ORDERS,
    TIMES,
    AmbiguousDatesError,
    date_format,
    days,
    found_days,
    spans,
    zones,
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["2024-01-31", "2024-02-01"], ISO),
        (["2024-01-31T10:00:00", "2024-02-01 11:30"], ISO),
        (["2024-01-31T10:00:00+02:00"], ISO),
        (["0024-12-28", "9999-12-31"], ISO),
        (["31.01.2024", "01.02.2024"], "%d.%m.%Y"),
        (["01.02.2024"], "%d.%m.%Y"),
        (["31/01/2024", "01/02/2024"], "%d/%m/%Y"),
        (["01/31/2024", "01/02/2024"], "%m/%d/%Y"),
        (["31-01-2024"], "%d-%m-%Y"),
        (["2024/01/31"], "%Y/%m/%d"),
        (["31.01.2024 10:30"], "%d.%m.%Y %H:%M"),
        (["01/31/2024 10:30 PM"], "%m/%d/%Y %I:%M %p"),
        (["2024-01-31", "2024-02-30"], None),
        (["2024-01-31", "soon"], None),
        (["31.01.2024", "2024-01-31"], None),
        (["31/01/2024", "01/31/2024"], None),
        (["20240131"], None),
        (["1706659200"], None),
        (["1.5"], None),
        (["192.168.1.1"], None),
        (["A-12-2024"], None),
    ],
)
def test_the_format_is_the_one_that_fits_all(words, expected):
    assert date_format(pa.array(words)) == expected


@pytest.mark.parametrize("word", ["01/02/2024", "03-04-2024", "5/6/2024 10:00"])
def test_day_or_month_first_is_not_guessed(word):
    with pytest.raises(AmbiguousDatesError):
        date_format(pa.array([word]))


DOZEN = range(1, 13)


def test_a_word_far_down_decides_too():
    first = [
        f"{day:02}/{month:02}/{year}" for year in range(2000, 2010) for day in range(1, 13) for month in range(1, 13)
    ]
    assert date_format(pa.array([*first, "13/01/2024"])) == "%d/%m/%Y"
    assert date_format(pa.array([*first, "01/13/2024"])) == "%m/%d/%Y"
    assert date_format(pa.array([*first, "13/13/2024"])) is None


@given(st.datetimes(), st.sampled_from(ORDERS), st.sampled_from(TIMES))
def test_what_strftime_writes_comes_back(moment, order, time):
    form = order + time
    # strftime does not pad a year before 1000 on every platform.
    text = moment.strftime(form.replace("%Y", f"{moment.year:04}"))
    expected = (datetime.datetime.strptime(text, form) - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
    np.testing.assert_allclose(days(pa.array([text]), form), [expected], rtol=0, atol=1e-9)


@given(st.datetimes())
def test_what_isoformat_writes_comes_back(moment):
    expected = (moment - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
    np.testing.assert_allclose(days(pa.array([moment.isoformat()]), ISO), [expected], rtol=0, atol=1e-9)


def test_days_of_what_is_no_date_or_null_are_nan():
    texts = pa.chunked_array([["1970-01-03", None], ["soon", "1970-01-03"]])
    np.testing.assert_array_equal(days(texts, ISO), [2, np.nan, np.nan, 2])


def test_a_zone_moves_a_date_to_universal_time():
    assert days(pa.array(["1970-01-02T00:00:00+12:00", "1970-01-02T00:00:00Z"]), ISO).tolist() == [0.5, 1.0]
    assert found_days(pd.Series(pd.to_datetime(["1970-01-02"]).tz_localize("Etc/GMT-12"))).tolist() == [0.5]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_dates_does_not_matter(unit):
    assert found_days(pd.Series(pd.to_datetime(["1970-01-02 12:00"])).astype(f"datetime64[{unit}]")).tolist() == [1.5]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["2024-01-31", "2024-01-31T10:00"], False),
        (["2024-01-31T10:00Z", "2024-01-31 10:00:00+02:00", "2024-01-31T10:00:00.5-0530"], True),
        (["2024-01-31T10:00Z", "2024-01-31T10:00"], None),
    ],
)
def test_zones_are_of_all_of_none_or_of_some(words, expected):
    assert zones(pa.array(words, pa.string())) is expected


def test_durations_are_days():
    texts = pa.chunked_array([["3 days", "1 days 12:00:00", "-1 days +06:00:00", None, "long"]])
    np.testing.assert_array_equal(spans(texts), [3, 1.5, -0.75, np.nan, np.nan])
