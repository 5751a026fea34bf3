"""Data frames of several types as the rows of a detector."""

import numpy as np
import pandas as pd
import pytest

from imbsam.anomaly import AnomalyDetector
from imbsam.errors import DataError, DataWarning


@pytest.fixture
def frame():
    """200 rows of four types; those of shop 007 that are open and long are anomalies."""
    draw = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "shop": draw.choice(["001", "007", "A1"], 200),
            "open": draw.random(200) > 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 300, 200), unit="D"),
            "length": draw.normal(size=200).round(2),
        }
    )
    known = ((found["shop"] == "007") & found["open"] & (found["length"] > 0)).astype(int)
    return found, known


def fitted(frame, known):
    return AnomalyDetector(steps=30, random_state=0).fit(frame, known)


def test_columns_of_texts_dates_and_truths_are_read(frame):
    detector = fitted(*frame)
    assert detector.n_features_in_ == 4
    assert list(detector.feature_names_in_) == ["shop", "open", "day", "length"]
    assert detector.score_samples(frame[0]).shape == (200,)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(open=f["open"].astype(int)),
        lambda f: f.assign(open=f["open"].map({True: "TRUE", False: "FALSE"})),
        lambda f: f.assign(day=f["day"].dt.strftime("%Y-%m-%d")),
        lambda f: f.assign(shop=f["shop"].astype("category")),
        lambda f: f.assign(length=f["length"].astype(str)),
        lambda f: f.assign(day=f["day"].astype("datetime64[s]")),
    ],
)
def test_later_rows_of_other_types_have_the_same_scores(frame, change):
    detector = fitted(*frame)
    assert np.array_equal(detector.score_samples(change(frame[0])), detector.score_samples(frame[0]))


def test_a_later_frame_whose_codes_are_numbers_alone_has_the_same_scores(frame):
    detector = fitted(*frame)
    every = detector.score_samples(frame[0])
    kept = (frame[0]["shop"] == "007").to_numpy()
    # In which order a product of matrices is added up depends on the number of rows.
    np.testing.assert_allclose(detector.score_samples(frame[0][kept]), every[kept], rtol=1e-9)


def test_dates_as_nanoseconds_are_refused(frame):
    detector = fitted(*frame)
    with pytest.raises(DataError, match="'day' was a date in training, and holds int64 values"):
        detector.score_samples(frame[0].assign(day=frame[0]["day"].astype("int64")))


def test_dates_in_a_column_of_numbers_are_refused(frame):
    numbers = frame[0][["length"]].assign(width=1.5 * frame[0]["length"] + 1)
    detector = fitted(numbers, frame[1])
    with pytest.raises(DataError, match="'width' was a number in training"):
        detector.score_samples(numbers.assign(width=frame[0]["day"]))


def test_cells_that_cannot_be_read_are_warned_of(frame):
    detector = fitted(*frame)
    with pytest.warns(DataWarning, match="column 'length': 1 value is not a number, first 'much' in row 3"):
        detector.score_samples(
            frame[0].assign(length=frame[0]["length"].astype(object).where(frame[0].index != 3, "much"))
        )


def test_a_column_that_is_constant_is_warned_of_and_ignored(frame):
    with pytest.warns(DataWarning, match="constant columns carry no information.*same"):
        detector = fitted(frame[0].assign(same="x"), frame[1])
    assert np.array_equal(
        detector.score_samples(frame[0].assign(same="y")), detector.score_samples(frame[0].assign(same="x"))
    )


def test_texts_that_may_be_two_numbers_are_refused(frame):
    detector = fitted(*frame)
    with pytest.raises(DataError, match="1,234 can be read in two ways"):
        detector.score_samples(frame[0].assign(length=["1,234"] * 200))
