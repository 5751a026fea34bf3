"""How far a classifier's evidence and the class priors can be trusted, found on rows that it was not trained on."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Values = TypeVar("Values", Floats, Tensor)

SPREAD = 0.5
"""Standard deviation of log a and log b before any row has been seen: a few rows move them little."""


@dataclass(frozen=True)
class Calibration:
    """Two numbers that make a classifier as sure as it is right.

    Its posterior under the training priors is ``softmax(a e + b log prior)``, with the evidence e of a row. With
    a = b = 1 it is Bayes' rule, with b = 1 a temperature 1 / a of the evidence, with a = b one of the whole posterior
    (Guo et al. 2017): a classifier that is too sure of what it says is too sure that a rare class is not there.

    Args:
        evidence: a, above 0.
        priors: b, above 0.
    """

    evidence: float = 1.0
    priors: float = 1.0

    def balanced(self, evidence: Values, log_priors: Values) -> Values:
        """Calibrate evidence: ``a e + (b - 1) log prior``, logits of the posterior under balanced class priors.

        Args:
            evidence: e, shape ``(N, C)``.
            log_priors: Of the training rows, shape ``(C,)``.
        """
        return self.evidence * evidence + (self.priors - 1) * log_priors


UNCALIBRATED = Calibration()


def fitted_calibration(evidence: Floats, targets: NDArray[np.int64], log_priors: Floats) -> Calibration:
    """Find the calibration of least log loss on rows that were not trained on, whatever their class frequencies are.

    Rows that are held out before a long tail is made are more balanced than those of training, so that the posterior is
    told for their own frequencies: ``softmax(a e + (b - 1) log prior + log frequency)``.

    Args:
        evidence: Shape ``(N, C)``, N may be 0.
        targets: Shape ``(N,)``.
        log_priors: Of the training rows, shape ``(C,)``.

    Returns:
        The calibration; near a = b = 1 on few rows.
    """
    # SciPy is needed after training at the earliest, and takes a while to import.
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    hits = np.eye(len(log_priors))[targets]
    frequencies = np.log((hits.sum(axis=0) + np.exp(log_priors)) / (len(targets) + 1))

    def loss(logs: Floats) -> tuple[float, Floats]:
        a, b = np.exp(logs)
        told = log_softmax(a * evidence + (b - 1) * log_priors + frequencies, axis=1)
        wrong = np.exp(told) - hits
        slope = np.array([a * (wrong * evidence).sum(), b * (wrong @ log_priors).sum()])
        return -(hits * told).sum() + (logs @ logs) / SPREAD**2 / 2, slope + logs / SPREAD**2

    a, b = np.exp(minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * 2).x)
    return Calibration(float(a), float(b))
