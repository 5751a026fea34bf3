"""Combining classifiers: the weighted mean of their posteriors under balanced class priors."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from imbsam.decisions import Calibration
from imbsam.estimators.evidence import Floats

PSEUDO_ROWS = 10.0
"""Rows that speak for each member's equal weight before any row has been seen."""

ROUNDS = 1000
TOLERANCE = 1e-8


def log_balanced(evidence: Floats, calibration: Calibration, log_priors: Floats) -> Floats:
    """Bring a classifier to balanced class priors.

    Args:
        evidence: Shape ``(N, C)``.
        calibration: Of it.
        log_priors: Of the training rows, shape ``(C,)``.

    Returns:
        Logarithm of the posterior, shape ``(N, C)``.
    """
    return np.asarray(log_softmax(calibration.balanced(evidence, log_priors), axis=1))


def averaged(members: Floats, weights: Floats) -> Floats:
    """Average posteriors: ``log sum_m w_m exp(l_m)``.

    Args:
        members: Their logarithms under the same priors, shape ``(M, N, C)``.
        weights: Shape ``(M,)``, sum 1.

    Returns:
        Shape ``(N, C)``.
    """
    return np.asarray(logsumexp(members, axis=0, b=weights[:, None, None]))


def fitted_weights(members: Floats, targets: NDArray[np.int64]) -> Floats:
    """Find the weights of least class-balanced log loss of the average, by expectation maximisation.

    :data:`PSEUDO_ROWS` rows for each member hold them near equal where a class has few rows.

    Args:
        members: Logarithm of posteriors under balanced priors, shape ``(M, N, C)``, N may be 0.
        targets: Shape ``(N,)``.

    Returns:
        Shape ``(M,)``, sum 1.
    """
    weights = np.full(len(members), 1 / len(members))
    if not len(targets):
        return weights
    classes, places, counts = np.unique(targets, return_inverse=True, return_counts=True)
    logs = members[:, np.arange(len(targets)), targets]
    likelihoods = np.exp(logs - logs.max(axis=0))
    # In all as many rows as a mean over classes is worth: classes^2 / sum of 1 / count.
    row_weights = (len(classes) / (1 / counts).sum() / counts)[places]
    for _ in range(ROUNDS):
        shares = weights[:, None] * likelihoods
        updated = (shares / shares.sum(axis=0)) @ row_weights + PSEUDO_ROWS
        updated /= updated.sum()
        if np.abs(updated - weights).max() < TOLERANCE:
            break
        weights = updated
    return np.asarray(weights)


def balanced_accuracy(evidence: Floats, targets: NDArray[np.int64]) -> float:
    """Mean recall of the classes that have rows, deciding under balanced priors."""
    hits = evidence.argmax(axis=1) == targets
    return float(np.mean([hits[targets == place].mean() for place in np.unique(targets)]))
