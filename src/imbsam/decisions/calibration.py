"""Calibration: how far to trust a classifier's evidence and the class priors, learned on held-out rows."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Values = TypeVar("Values", Floats, Tensor)

SPREAD = 0.5
"""Prior standard deviation of log a and log b, by which a few rows change them little."""


@dataclass(frozen=True)
class Calibration:
    """Two numbers that make a classifier's confidence match its accuracy.

    Its posterior under the training priors is ``softmax(a e + b log prior)``, with the evidence e of a row. With
    a = b = 1 this is Bayes' rule, with b = 1 a temperature 1 / a of the evidence, and with a = b a temperature of the
    whole posterior (Guo et al. 2017). An overconfident classifier is also too sure that a sample is not of a rare
    class.

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
            log_priors: Log priors of the training rows, shape ``(C,)``.
        """
        return self.evidence * evidence + (self.priors - 1) * log_priors


UNCALIBRATED = Calibration()


def fitted_calibration(evidence: Floats, targets: NDArray[np.int64], log_priors: Floats) -> Calibration:
    """Find the calibration with the least log loss on held-out rows, whatever their class frequencies are.

    Rows held out before a long tail is made are more balanced than the training rows. So the posterior is computed for
    their own frequencies: ``softmax(a e + (b - 1) log prior + log frequency)``.

    Args:
        evidence: Shape ``(N, C)``, N may be 0.
        targets: Class of each sample, shape ``(N,)``.
        log_priors: Log priors of the training rows, shape ``(C,)``.

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
