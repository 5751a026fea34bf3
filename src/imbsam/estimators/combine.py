"""Combination of classifiers: a weighted sum of their evidence, fitted on held-out rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from imbsam.estimators.evidence import Floats
from imbsam.models.blend import FLOOR


@dataclass(frozen=True)
class Pool:
    """Weights that combine members (a logarithmic opinion pool, Genest and Zidek 1986, with a weight of the priors).

    With ``v_m = log(C softmax(e_m) + 0.05)`` of each member's evidence e_m, the posterior under the training priors is
    ``softmax(sum_m a_m v_m + b log prior)``.

    Args:
        weights: a, shape ``(M,)``, at least 0.
        priors: b, at least 0.
    """

    weights: Floats
    priors: float = 1.0

    @property
    def shares(self) -> Floats:
        """Weights divided by their sum."""
        return np.asarray(self.weights / self.weights.sum())

    def evidence(self, members: Floats, log_priors: Floats) -> Floats:
        """Combine the evidence of the members: logits of the posterior under balanced class priors.

        Args:
            members: Evidence of each, shape ``(M, N, C)``.
            log_priors: Log priors of the training rows, shape ``(C,)``.

        Returns:
            Array of shape ``(N, C)``.
        """
        return np.asarray(np.tensordot(self.weights, voices(members), axes=1) + (self.priors - 1) * log_priors)


def voices(evidence: Floats) -> Floats:
    """Bound evidence by what no member can be sure of: ``v = log(C softmax(e) + 0.05)``, of any shape ``(..., C)``."""
    return np.asarray(np.log(evidence.shape[-1] * softmax(evidence, axis=-1) + FLOOR))


def fitted_pool(members: Floats, targets: NDArray[np.int64], log_priors: Floats) -> Pool:
    """Find the weights of least mean log loss under the training priors, kept near equal if there are few rows.

    Minimises ``mean loss + (sum_m (a_m - 1/M)^2 + (b - 1)^2) / N``, which is convex.

    Args:
        members: Evidence of each, shape ``(M, N, C)``, N may be 0.
        targets: Class of each sample, shape ``(N,)``.
        log_priors: Log priors of the training rows, shape ``(C,)``.
    """
    number = len(members)
    usual = np.append(np.full(number, 1 / number), 1.0)
    if not len(targets):
        return Pool(usual[:-1])
    parts = np.concatenate([voices(members), np.broadcast_to(log_priors, (1, *members.shape[1:]))])
    hits = np.eye(len(log_priors))[targets]

    def loss(weights: Floats) -> tuple[float, Floats]:
        told = log_softmax(np.tensordot(weights, parts, axes=1), axis=1)
        slopes = np.tensordot(parts, np.exp(told) - hits, axes=2)
        gap = weights - usual
        value = -(hits * told).sum() + gap @ gap
        return value / len(targets), (slopes + 2 * gap) / len(targets)

    found = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=[(0, None)] * (number + 1)).x
    return Pool(found[:-1], float(found[-1])) if found[:-1].any() else Pool(usual[:-1])


def balanced_accuracy(evidence: Floats, targets: NDArray[np.int64]) -> float:
    """Compute the mean recall of the classes that have rows, with decisions under balanced priors."""
    hits = evidence.argmax(axis=1) == targets
    return float(np.mean([hits[targets == place].mean() for place in np.unique(targets)]))
