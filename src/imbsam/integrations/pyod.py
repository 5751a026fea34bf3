"""PyOD: an anomaly detector with PyOD's interface."""

from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyod.models.base import BaseDetector
from sklearn.base import clone

from imbsam.anomaly.estimator import ArrayDetector, Scores
from imbsam.anomaly.threshold import USUAL_SHARE


@runtime_checkable
class _Thresholder(Protocol):
    """Interface of PyThresh's classes, which tell anomalies (1) from normal rows (0) by their scores."""

    def fit(self, X: Scores) -> Self: ...
    def predict(self, X: Scores) -> ArrayLike: ...


Contamination = float | Literal["auto"] | _Thresholder


class PyODDetector(ArrayDetector, BaseDetector):
    """Anomaly detector with a few labelled anomalies, with the interface of PyOD.

    Parameters and labels are those of :class:`~imbsam.anomaly.AnomalyDetector`; predictions, probabilities, confidence
    and rejection are PyOD's own: scores are higher for anomalies, and predicted labels are 1 for anomalies and 0 for
    normal rows. As in PyOD ``contamination`` may also be a thresholder of PyThresh.

    Attributes:
        decision_scores_: Decision scores of the training rows, shape ``(n_samples,)``.
        threshold_: Score above which a row is an anomaly; the thresholder's own if there is one.
        labels_: Labels of the training rows by this threshold, shape ``(n_samples,)``.
        contamination: The parameter. After ``fit`` the value that PyOD uses: for ``"auto"`` the share of training rows
            above the threshold, and for a thresholder its fitted copy; ``get_params`` still returns the parameter.
        recall_: See :class:`~imbsam.anomaly.AnomalyDetector`, also for the further attributes.
    """

    _given: Contamination
    _fitted: Contamination | None = None

    @property  # type: ignore[override]
    def contamination(self) -> Contamination:
        """Parameter, or after ``fit`` the value that PyOD's methods use."""
        return self._given if self._fitted is None else self._fitted

    @contamination.setter
    def contamination(self, value: Contamination) -> None:
        self._given = value

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters as they were given.

        Args:
            deep: Include those of a thresholder.
        """
        return {**super().get_params(deep), "contamination": self._given}

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train the detector; see :meth:`AnomalyDetector.fit <imbsam.anomaly.AnomalyDetector.fit>`.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            y: Labels, shape ``(n_samples,)``: 1 for a known anomaly, 0 for unlabelled, -1 for known to be normal; by
                default no row is labelled.
        """
        given = self._given
        table = self._fit(X, y, USUAL_SHARE if isinstance(given, _Thresholder) else given)
        scores = self.decision_scores_ = self.detector_.scores_of_fit(table).numpy()
        called = scores > self.detector_.threshold.value
        if isinstance(given, _Thresholder):
            self._fitted = clone(given, safe=False)
        else:
            self._fitted = _share(called) if given == "auto" else float(given)
        self._set_n_classes(None)
        self._process_decision_scores()
        if not isinstance(given, _Thresholder):
            # PyOD's is a quantile of the scores, which a calibrated threshold is not.
            self.threshold_, self.labels_ = self.detector_.threshold.value, called.astype(int)
        return self

    def decision_function(self, X: ArrayLike) -> Scores:
        """Compute anomaly scores; higher is more anomalous.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Scores, shape ``(n_samples,)``.
        """
        return self._scores(X)


def _share(called: NDArray[np.bool_]) -> float:
    """Return the share of rows called anomalies, of which PyOD needs one; it rounds their number down."""
    return float(np.nextafter(max(1, called.sum()) / len(called), 1))
