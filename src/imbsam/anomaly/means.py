"""Means over labelled anomalies with their intervals, and how many would separate a difference from chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MOST_NEEDED = 10_000
"""Largest number of labelled anomalies that is reported as needed."""


@dataclass(frozen=True)
class Mean:
    """Mean over labelled anomalies.

    Args:
        value: The mean.
        half_width: Half the width of its 95 % interval, Student's t.
    """

    value: float
    half_width: float


@dataclass(frozen=True)
class Difference(Mean):
    """Mean of paired differences.

    Args:
        clear: Whether the interval excludes 0.
        needed: If it does not, number of labelled anomalies that would separate the difference from chance, if its
            estimate is right; ``None`` for more than 10,000.
    """

    clear: bool
    needed: int | None


def mean_of(values: NDArray[np.float64]) -> Mean:
    """Compute the mean of the values of two or more labelled anomalies."""
    return Mean(float(values.mean()), float(_half_widths(values, np.array([len(values)]))[0]))


def difference_of(values: NDArray[np.float64]) -> Difference:
    """Compute the mean of the differences at two or more labelled anomalies."""
    found, numbers = mean_of(values), np.arange(2, MOST_NEEDED + 1)
    clear = abs(found.value) > found.half_width
    enough = numbers[_half_widths(values, numbers) < abs(found.value)]
    return Difference(
        found.value, found.half_width, clear, None if clear or not len(enough) else max(len(values) + 1, int(enough[0]))
    )


def _half_widths(values: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute ``t(0.975, n - 1) * s / sqrt(n)``, s the standard deviation of the values, for each number n."""
    widths: NDArray[np.float64] = stats.t.ppf(0.975, numbers - 1) * values.std(ddof=1) / np.sqrt(numbers)
    return widths
