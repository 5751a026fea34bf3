"""The face of PyOD's detectors. PyOD itself is not needed."""

from numbers import Real
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, erf
from scipy.stats import binom
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from imbsam.anomaly.estimator import BaseDetector, Scores
from imbsam.anomaly.threshold import USUAL_SHARE
from imbsam.errors import OptionError

Labels = NDArray[np.int64]

REJECTED = -2
"""The label of a row that :meth:`PyODDetector.predict_with_rejection` rejects."""


@runtime_checkable
class Thresholder(Protocol):
    """What PyThresh's classes are: they tell anomalies by the scores of the training rows."""

    labels_: ArrayLike

    def fit(self, X: Scores) -> Self:
        """Look at the scores of the training rows."""

    def predict(self, X: Scores) -> ArrayLike:
        """Tell anomalies (1) from normal rows (0) by their scores."""


class PyODDetector(BaseDetector):
    """Anomaly detection with a few labelled anomalies, with the names and signs of PyOD.

    Parameters and labels are those of :class:`~imbsam.anomaly.AnomalyDetector`; scores are higher for anomalies, and
    predicted labels are 1 for anomalies and 0 for normal rows. As in PyOD ``contamination`` may also be a thresholder
    of PyThresh.

    Attributes:
        decision_scores_: Of the training rows, shape ``(n_samples,)``.
        threshold_: A row is an anomaly where its score is greater; the greatest score of a training row taken for
            normal, where a thresholder tells anomalies.
        labels_: Of the training rows by this threshold, shape ``(n_samples,)``.
        recall_: See :class:`~imbsam.anomaly.AnomalyDetector`, as the further attributes.
    """

    decision_scores_: Scores
    threshold_: float
    labels_: Labels
    thresholder_: Thresholder | None

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train; see :meth:`AnomalyDetector.fit <imbsam.anomaly.AnomalyDetector.fit>`.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            y: 1 for a known anomaly, 0 unlabelled, -1 known to be normal, shape ``(n_samples,)``; by default no label.
        """
        thresholder = clone(self.contamination) if isinstance(self.contamination, Thresholder) else None
        table = self._fit(X, y, USUAL_SHARE if thresholder else self.contamination)
        scores = self.decision_scores_ = self.detector_.score(table).numpy()
        self.threshold_ = self.detector_.threshold.value
        self.thresholder_ = thresholder
        if thresholder is None:
            self.labels_ = self._labels(scores)
        else:
            self.labels_ = np.asarray(thresholder.fit(scores).labels_).astype(np.int64)
            self.threshold_ = float(scores[self.labels_ == 0].max(initial=-np.inf))
        self._mu = float(self.decision_scores_.mean())
        self._sigma = float(self.decision_scores_.std())
        return self

    def fit_predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Labels:
        """Train, and give the labels of the training rows.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            y: As of :meth:`fit`.

        Returns:
            1 for anomalies, 0 for the others, shape ``(n_samples,)``.
        """
        return self.fit(X, y).labels_

    def decision_function(self, X: ArrayLike) -> Scores:
        """How anomalous rows are, higher is more.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Shape ``(n_samples,)``.
        """
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

    def predict_with_rejection(
        self,
        X: ArrayLike,
        T: float = 32.0,
        return_stats: bool = False,
        delta: float = 0.1,
        c_fp: float = 1.0,
        c_fn: float = 1.0,
        c_r: float | None = None,
    ) -> Labels | tuple[Labels, list[float]]:
        """Labels, and -2 for rows whose label would hang on the choice of training rows (Perini & Davis 2023).

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.
            T: A row is rejected where twice the distance of its confidence from 1/2 is at most ``1 - 2 exp(-T)``.
            return_stats: Give :meth:`compute_rejection_stats` of the further arguments as well, as a list.
            delta: See there, as the costs.
            c_fp: Cost of a false alarm.
            c_fn: Cost of an anomaly missed.
            c_r: Cost of a rejection.

        Returns:
            1, 0 or -2, shape ``(n_samples,)``.
        """
        scores = self._scores(X)
        sure = 2 * np.abs(self._confidence(scores) - 0.5) > 1 - 2 * np.exp(-T)
        labels = np.where(sure, self._labels(scores), REJECTED)
        return (labels, [*self.compute_rejection_stats(T, delta, c_fp, c_fn, c_r)]) if return_stats else labels

    def compute_rejection_stats(
        self, T: float = 32.0, delta: float = 0.1, c_fp: float = 1.0, c_fn: float = 1.0, c_r: float | None = None
    ) -> tuple[float, float, float]:
        """What rejection costs, of new rows that are like the training rows (Perini & Davis 2023, section 3).

        Args:
            T: As of :meth:`predict_with_rejection`.
            delta: The bound on the rejected share holds with probability ``1 - delta``; in (0, 1).
            c_fp: Cost of a false alarm.
            c_fn: Cost of an anomaly missed.
            c_r: Cost of a rejection; by default, or below 0, the share of training rows called anomalies.

        Returns:
            The expected rejected share, a bound on it, and a bound on the cost of a row.

        Raises:
            OptionError: If ``delta`` is out of range.
        """
        check_is_fitted(self)
        if not 0 < delta < 1:
            raise OptionError(f"delta must be in (0, 1); got {delta!r}.")
        n = len(self.decision_scores_)
        share = self._flagged() / n
        # A row with a share q of the training rows above it is rejected for q between these quantiles of a Beta law.
        a = max(self._flagged(), 1)
        low, high = (float(quantile(a, n - a + 1, np.exp(-T))) for quantile in (betaincinv, betainccinv))
        above = (1 - share * (n + 2) / n) + (1 + T * (n + 2) / np.sqrt(2 * n * T)) / n
        spread = (
            0.5 * n**5 * (2 * n * (-3 * share**2 - 2 * n * (1 - share) ** 2 + 4 * share - 3) + T * (n + 2) ** 2 - 8)
        )
        below = (2 + n * (1 - share) * (n + 1)) / n**2 - np.sqrt(max(spread, 0.0)) / n**4
        bound = min(above, 1.0) - max(below, 0.0) + 2 * np.sqrt(np.log(2 / delta) / (2 * n))
        rejected = high - low
        price = share if c_r is None or c_r < 0 else c_r
        cost = min(share, low) * c_fp + min(1 - high, share) * c_fn + rejected * price
        return rejected, float(bound), float(cost)

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
        if self.thresholder_ is not None:
            return np.asarray(self.thresholder_.predict(scores)).astype(np.int64)
        return (scores > self.threshold_).astype(np.int64)

    def _flagged(self) -> int:
        """How many training rows are called anomalies; of ties at the threshold, as many as were asked for."""
        share = self.contamination
        return int(len(self.labels_) * share) if isinstance(share, Real) else int(self.labels_.sum())

    def _confidence(self, scores: Scores) -> Scores:
        n = len(self.decision_scores_)
        below = np.searchsorted(np.sort(self.decision_scores_), scores, side="right")
        anomalous: Scores = 1 - binom.cdf(n - self._flagged(), n, (1 + below) / (2 + n))
        return np.where(self._labels(scores) == 1, anomalous, 1 - anomalous)
