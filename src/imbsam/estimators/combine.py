"""Combining classifiers: the weighted mean of their posteriors under balanced class priors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from imbsam.estimators.evidence import Floats

SPREAD = 0.5
"""Standard deviation of log a and log b before any row has been seen."""

PSEUDO_ROWS = 10.0
"""Rows that speak for each member's equal weight before any row has been seen."""

ROUNDS = 1000
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Calibration:
    """How far a classifier's evidence and the class priors can be trusted.

    Its posterior under the training priors is ``softmax(a e + b log prior)``. With a = b = 1 it is Bayes' rule, with
    b = 1 a temperature 1 / a of the evidence, with a = b one of the whole posterior: a classifier that is too sure of
    what it says is too sure that a rare class is not there.

    Args:
        evidence: a.
        priors: b.
    """

    evidence: float = 1.0
    priors: float = 1.0

    def balanced(self, evidence: Floats, log_priors: Floats) -> Floats:
        """Bring a classifier to balanced class priors.

        Args:
            evidence: e, shape ``(N, C)``.
            log_priors: Of the training rows, shape ``(C,)``.

        Returns:
            Logarithm of the posterior, shape ``(N, C)``.
        """
        return np.asarray(log_softmax(self.evidence * evidence + (self.priors - 1) * log_priors, axis=1))


UNCALIBRATED = Calibration()


def fitted_calibration(evidence: Floats, targets: NDArray[np.int64], log_priors: Floats) -> Calibration:
    """Find the calibration of least log loss under the training priors, on rows that were not trained on.

    Args:
        evidence: Shape ``(N, C)``, N may be 0.
        targets: Shape ``(N,)``.
        log_priors: Of the training rows, shape ``(C,)``.

    Returns:
        The calibration; near a = b = 1 on few rows.
    """
    hits = np.eye(len(log_priors))[targets]

    def loss(logs: Floats) -> tuple[float, Floats]:
        a, b = np.exp(logs)
        told = log_softmax(a * evidence + b * log_priors, axis=1)
        wrong = np.exp(told) - hits
        slope = np.array([a * (wrong * evidence).sum(), b * (wrong @ log_priors).sum()])
        return -(hits * told).sum() + (logs @ logs) / SPREAD**2 / 2, slope + logs / SPREAD**2

    a, b = np.exp(minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * 2).x)
    return Calibration(float(a), float(b))


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
