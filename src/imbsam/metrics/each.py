"""Contribution of each anomaly to the areas, so that two rankings can be compared anomaly by anomaly."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def precision_at_each(scores: Floats, anomalous: NDArray[np.bool_]) -> Floats:
    """Compute the precision with the threshold at each anomaly; their mean is the average precision.

    Args:
        scores: Score of each row, shape ``(N,)``; higher is more anomalous.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.

    Returns:
        Values of shape ``(anomalies,)``, in the order of the anomalies.
    """
    own = scores[anomalous]
    return _at_least(own, own) / _at_least(scores, own)


def area_of_each(scores: Floats, anomalous: NDArray[np.bool_]) -> Floats:
    """Compute, for each anomaly, the share of other rows with a lower score, ties by half; their mean is the AUROC.

    Args:
        scores: Score of each row, shape ``(N,)``; higher is more anomalous.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.

    Returns:
        Values of shape ``(anomalies,)``, in the order of the anomalies.
    """
    own, others = scores[anomalous], np.sort(scores[~anomalous])
    lower = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
    return lower / (2 * len(others))


def _at_least(scores: Floats, thresholds: Floats) -> Floats:
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")).astype(np.float64)
