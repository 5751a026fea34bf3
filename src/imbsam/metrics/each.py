"""What each anomaly by itself adds to the areas, so that two rankings can be compared anomaly by anomaly."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def precision_at_each(scores: Floats, anomalous: NDArray[np.bool_]) -> Floats:
    """Precision where the threshold lies at the anomaly; the mean over all is the average precision.

    Args:
        scores: Higher is more anomalous, shape ``(N,)``.
        anomalous: Shape ``(N,)``.

    Returns:
        Shape ``(anomalies,)``, in their order.
    """
    own = scores[anomalous]
    return _at_least(own, own) / _at_least(scores, own)


def area_of_each(scores: Floats, anomalous: NDArray[np.bool_]) -> Floats:
    """Share of the other rows that score lower, ties by half; the mean over all is the area under the ROC curve.

    Args:
        scores: Higher is more anomalous, shape ``(N,)``.
        anomalous: Shape ``(N,)``.

    Returns:
        Shape ``(anomalies,)``, in their order.
    """
    own, others = scores[anomalous], np.sort(scores[~anomalous])
    lower = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
    return lower / (2 * len(others))


def _at_least(scores: Floats, thresholds: Floats) -> Floats:
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")).astype(np.float64)
