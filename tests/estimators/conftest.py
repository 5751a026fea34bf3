"""A long-tailed problem of three classes, as an array and as a frame with categories, a date and missing values."""

import numpy as np
import pandas as pd
import pytest

COUNTS = {"common": 90, "rarer": 30, "rare": 6}


@pytest.fixture
def rows():
    """``X`` of four columns and text labels ``y``, in random order; class c lies around 2 c on the first column."""
    draw = np.random.default_rng(0)
    y = draw.permutation(np.repeat(list(COUNTS), list(COUNTS.values())))
    place = np.array([list(COUNTS).index(label) for label in y])
    X = draw.normal(size=(len(y), 4))
    X[:, 0] += 2.5 * place
    return X, y


@pytest.fixture
def frame(rows):
    X, y = rows
    draw = np.random.default_rng(1)
    place = np.array([list(COUNTS).index(label) for label in y])
    width = X[:, 0].copy()
    width[::10] = np.nan
    return pd.DataFrame(
        {
            "width": width,
            "colour": np.array(["red", "green", "blue"])[np.where(draw.random(len(y)) < 0.8, place, 0)],
            "made": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 300, len(y)), "D"),
            "grade": pd.Categorical(draw.choice(["a", "b"], len(y))),
            "code": draw.choice([10, 20, 30], len(y)),
        }
    ), y
