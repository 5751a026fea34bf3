"""Means over labelled anomalies: Student's interval, and the number that would tell a difference."""

import numpy as np
import pytest
from scipy import stats

from imbsam.anomaly.means import difference_of, mean_of


def test_the_interval_is_students():
    values = np.array([0.2, 0.4, 0.9])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    found = mean_of(values)
    assert (found.value - found.half_width, found.value + found.half_width) == pytest.approx((low, high))


def test_a_difference_is_clear_where_the_interval_excludes_zero():
    assert difference_of(np.array([0.2, 0.21, 0.22])).clear
    assert difference_of(-np.array([0.2, 0.21, 0.22])).clear
    assert not difference_of(np.array([0.2, -0.1, 0.1])).clear
    assert not difference_of(np.zeros(3)).clear


def test_as_many_as_needed_would_tell_a_difference_and_one_less_would_not():
    values = np.array([0.2, -0.1, 0.1, 0.0])
    needed, spread = difference_of(values).needed, values.std(ddof=1)
    enough = [stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n) < values.mean() for n in (needed - 1, needed)]
    assert enough == [False, True]


def test_nothing_is_needed_for_a_clear_difference_and_nothing_helps_without_any():
    assert difference_of(np.array([0.2, 0.21, 0.22])).needed is None
    assert difference_of(np.zeros(3)).needed is None
    assert difference_of(np.array([1.0, -1.0, 1e-6])).needed is None
