"""The face of PyOD's detectors. PyOD itself is not needed."""

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from imbsam.anomaly.estimator import BaseDetector, Scores
from imbsam.errors import OptionError

Labels = NDArray[np.int64]

REJECTED = -2
"""The label of a row that :meth:`PyODDetector.predict_with_rejection` rejects."""


class PyODDetector(BaseDetector):
    """Anomaly detection with a few labelled anomalies, with the names and signs of PyOD.

    Parameters and labels are those of :class:`~imbsam.anomaly.AnomalyDetector`; scores are higher for anomalies, and
    predicted labels are 1 for anomalies and 0 for normal rows.

    Attributes:
        decision_scores_: Of the training rows, shape ``(n_samples,)``.
        threshold_: A row is an anomaly where its score is greater.
        labels_: Of the training rows by this threshold, shape ``(n_samples,)``.
        recall_: See :class:`~imbsam.anomaly.AnomalyDetector`, as the further attributes.
    """

    decision_scores_: Scores
    threshold_: float
    labels_: Labels

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train; see :meth:`AnomalyDetector.fit <imbsam.anomaly.AnomalyDetector.fit>`."""
        table = self._fit(X, y)
        self.decision_scores_ = self.detector_.score(table).numpy()
        self.threshold_ = self.detector_.threshold.value
        self.labels_ = self._labels(self.decision_scores_)
        self._mu = float(self.decision_scores_.mean())
        self._sigma = float(self.decision_scores_.std())
        return self

    def fit_predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Labels:
        """Train, and give the labels of the training rows."""
        return self.fit(X, y).labels_

    def decision_function(self, X: ArrayLike) -> Scores:
        """How anomalous rows are, higher is more, shape ``(n_samples,)``."""
        return self._scores(X)

    def predict(
        self,
        X: ArrayLike,
        return_confidence: bool = False,
    ) -> Labels | tuple[Labels, Scores]:
        """Tell anomalies (1) from normal rows (0).

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            return_confidence: Give :meth:`predict_confidence` as well.
        """
        scores = self._scores(X)
        labels = self._labels(scores)
        return (labels, self._confidence(scores)) if return_confidence else labels

    def predict_proba(
        self,
        X: ArrayLike,
        method: Literal["linear", "unify"] = "linear",
        return_confidence: bool = False,
    ) -> Scores | tuple[Scores, Scores]:
        """Scores brought to [0, 1] by those of the training rows; no calibrated probabilities.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            method: ``"linear"``: from the least to the greatest training score; ``"unify"``: the error function of
                the score's deviation from their mean (Kriegel et al. 2011).
            return_confidence: Give :meth:`predict_confidence` as well.

        Returns:
            Columns normal and anomalous, shape ``(n_samples, 2)``.

        Raises:
            OptionError: If the method is another.
        """
        scores = self._scores(X)
        of_training = self.decision_scores_
        if method == "linear":
            low, high = of_training.min(), of_training.max()
            anomalous = (scores - low) / (high - low if high > low else 1.0)
        elif method == "unify":
            anomalous = erf((scores - self._mu) / ((self._sigma or 1.0) * np.sqrt(2)))
        else:
            raise OptionError(f"method must be 'linear' or 'unify'; got {method!r}.")
        anomalous = anomalous.clip(0, 1)
        shares = np.stack([1 - anomalous, anomalous], axis=1)
        return (shares, self._confidence(scores)) if return_confidence else shares

    def predict_confidence(self, X: ArrayLike) -> Scores:
        """How often the predicted label would be the same with other training rows (Perini et al. 2020).

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            In [0, 1], shape ``(n_samples,)``.
        """
        return self._confidence(self._scores(X))

    def predict_with_rejection(self, X: ArrayLike, T: float = 32.0) -> Labels:
        """Labels, and -2 for rows whose label would hang on the choice of training rows (Perini & Davis 2023).

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            T: A row is rejected where twice the distance of its confidence from 1/2 is at most ``1 - 2 exp(-T)``.

        Returns:
            1, 0 or -2, shape ``(n_samples,)``.
        """
        scores = self._scores(X)
        sure = 2 * np.abs(self._confidence(scores) - 0.5) > 1 - 2 * np.exp(-T)
        return np.where(sure, self._labels(scores), REJECTED)

    def fit_predict_score(
        self, X: ArrayLike, y: ArrayLike, scoring: Literal["roc_auc_score", "prc_n_score"] = "roc_auc_score"
    ) -> float:
        """Train without labels, and compare the training rows' scores with what the rows are.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            y: 1 for anomalies, 0 for normal rows: the truth, which training does not see.
            scoring: Area under the ROC curve, or the precision among as many rows as there are anomalies.

        Raises:
            NotImplementedError: If ``scoring`` is another.
        """
        if scoring not in ("roc_auc_score", "prc_n_score"):
            raise NotImplementedError(f"scoring must be 'roc_auc_score' or 'prc_n_score'; got {scoring!r}.")
        scores, truth = self.fit(X).decision_scores_, np.asarray(y)
        if scoring == "roc_auc_score":
            return float(roc_auc_score(truth, scores))
        highest = np.argsort(-scores, kind="stable")[: int(truth.sum())]
        return float(truth[highest].mean())

    def _predict_rank(self, X: ArrayLike, normalized: bool = False) -> NDArray[np.int64] | Scores:
        """How many training rows score lower; normalised: divided by the greatest of these numbers."""
        ranks = np.searchsorted(np.sort(self.decision_scores_), self._scores(X))
        return ranks / ranks.max() if normalized else ranks

    def _labels(self, scores: Scores) -> Labels:
        return (scores > self.threshold_).astype(np.int64)

    def _confidence(self, scores: Scores) -> Scores:
        n = len(self.decision_scores_)
        below = np.searchsorted(np.sort(self.decision_scores_), scores, side="right")
        flagged = int(self.labels_.sum()) if self.contamination == "auto" else int(n * float(self.contamination))
        anomalous: Scores = 1 - binom.cdf(n - flagged, n, (1 + below) / (2 + n))
        return np.where(self._labels(scores) == 1, anomalous, 1 - anomalous)
