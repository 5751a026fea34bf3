"""Combining classifiers: a mixture of their posteriors under balanced class priors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from imbsam.decisions import Posterior
from imbsam.estimators.evidence import Floats

LEAST_ROWS = 10
"""Rows of each class on which weights are fitted."""

PSEUDO_ROWS = 10.0
"""Rows that speak for each member's equal weight before any row has been seen."""

ROUNDS = 1000
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Mixture:
    """How members' posteriors are mixed.

    Args:
        temperatures: T of each member, shape ``(M,)``.
        weights: Of each member, shape ``(M,)``, sum 1.
    """

    temperatures: Floats
    weights: Floats

    def evidence(self, members: Floats) -> Floats:
        """Mix under balanced priors: ``log sum_m w_m softmax(e_m / T_m)``.

        Args:
            members: Evidence of each, shape ``(M, N, C)``.

        Returns:
            Shape ``(N, C)``.
        """
        logs = log_softmax(members / self.temperatures[:, None, None], axis=2)
        return np.asarray(logsumexp(logs, axis=0, b=self.weights[:, None, None]))


def fitted_mixture(
    members: Floats, targets: NDArray[np.int64], posterior: Posterior, weights: Floats | None
) -> Mixture:
    """Fit temperatures, and weights where none are given, on rows that were not trained on.

    Args:
        members: Evidence of each, shape ``(M, N, C)``, N may be 0.
        targets: Shape ``(N,)``.
        posterior: From evidence to probabilities under the training priors.
        weights: Shape ``(M,)``, sum 1; None: fitted where each class has :data:`LEAST_ROWS` rows, else equal.

    Returns:
        The mixture.
    """
    classes = torch.from_numpy(targets)
    temperatures = [posterior.calibrated(torch.from_numpy(each), classes).temperature for each in members]
    mixture = Mixture(np.array(temperatures), np.full(len(members), 1 / len(members)) if weights is None else weights)
    if weights is None and np.bincount(targets, minlength=members.shape[2]).min() >= LEAST_ROWS:
        return Mixture(mixture.temperatures, fitted_weights(members, targets, mixture.temperatures))
    return mixture


def fitted_weights(members: Floats, targets: NDArray[np.int64], temperatures: Floats) -> Floats:
    """Find the weights of least class-balanced log loss of the mixture, by expectation maximisation.

    :data:`PSEUDO_ROWS` rows for each member hold them near equal on few rows.

    Args:
        members: Evidence of each, shape ``(M, N, C)``.
        targets: Shape ``(N,)``, of all C classes.
        temperatures: Shape ``(M,)``.

    Returns:
        Shape ``(M,)``, sum 1.
    """
    number, rows, classes = members.shape
    logs = log_softmax(members / temperatures[:, None, None], axis=2)[:, np.arange(rows), targets]
    likelihoods = np.exp(logs - logs.max(axis=0))
    counts = np.bincount(targets, minlength=classes)
    # In all as many rows as a mean over classes is worth: classes^2 / sum of 1 / count.
    row_weights = classes / (1 / counts).sum() / counts[targets]
    weights = np.full(number, 1 / number)
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
