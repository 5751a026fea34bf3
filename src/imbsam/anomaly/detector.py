"""The face of scikit-learn's outlier detectors."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin

from imbsam.anomaly.estimator import ArrayDetector, Scores


class AnomalyDetector(OutlierMixin, ArrayDetector):  # type: ignore[misc]
    """Anomaly detection with a few labelled anomalies, as a scikit-learn outlier detector.

    The labelled anomalies are the tail of a sharpness-aware method. ``y`` holds 1 for a known anomaly, 0 for an
    unlabelled row and -1 for a row known to be normal; ``predict`` gives 1 for normal rows and -1 for anomalies, and
    lower scores are more abnormal, as everywhere in scikit-learn. Without labels it is Deep SVDD.

    Args:
        objective: Network, loss and score, one of :data:`~imbsam.anomaly.OBJECTIVES`; ``"auto"``: ``"blend"`` for
            tables, several networks and a forest, ``"devnet"`` for images.
        objective_options: Objective options of the objective, see :func:`~imbsam.anomaly.objective_options`.
        method: One of :data:`imbsam.optim.METHODS`; ``"plain"`` is the base optimizer alone.
        method_options: Method options of the method, see :func:`imbsam.optim.options_of`.
        rho: Neighbourhood size; by default what suits the objective, or the method where its rho is no length.
        damping: Damping of the ascent: a perturbation is ``rho * g / (|g| + damping)``, short where the gradient is.
        base: Base optimizer, a name of :func:`imbsam.optim.create`.
        lr: Learning rate; by default what suits the objective.
        weight_decay: Weight decay of the base optimizer; by default what suits the objective.
        steps: Steps of the training, and of the auto-encoder's before it where there is one, however many rows there
            are.
        epochs: Instead of ``steps``: each goes over the rows that are no labelled anomalies once.
        pretraining_epochs: Pretraining epochs of the auto-encoder, instead of ``epochs`` or ``steps``.
        batch_size: Rows (or pairs) in a batch, at least 2; fewer rows than that make one batch.
        anomalies_per_batch: How many of them are, or hold, labelled anomalies; 0 leaves it to chance. By default the
            objective's share of the batch.
        scaling: ``"standard"``, ``"minmax"`` or ``"none"``, fitted on the training rows; by default the objective's.
        image_shape: ``(channels, height, width)`` where the rows are images, flattened or not; they are seen by a
            convolutional network.
        members: Networks whose standardised scores are averaged.
        contamination: The share of training rows to call anomalies, in (0, 0.5]; or ``"auto"``: each network leaves a
            fifth of the rows out of its training, and the threshold is chosen on the labelled anomalies and the other
            rows there. Without enough labels ``"auto"`` is 0.1.
        other_labels: What to do with a label that is none of these, NaN included: ``"error"``, or take its row for
            ``"unlabelled"``. Three checks of scikit-learn's ``check_estimator`` label rows 2, and pass with the latter.
        strict: Refuse training rows without a labelled anomaly, rather than train without labels.
        precision: ``"double"``, or ``"single"``: faster, scores to about seven digits. By default double for tables and
            single for images.
        device: Where the network is, as torch names it.
        random_state: Seed; the same seed gives the same bits on the same machine.

    Attributes:
        offset_: ``decision_function`` is ``score_samples`` minus this.
        recall_: Estimated share of anomalies found, where the threshold was calibrated; else NaN.
        false_alarm_rate_: Estimated share of other rows called anomalies (anomalies among them counted); else NaN.
        objective_: What was trained: ``"deep-svdd"`` where there was no labelled anomaly.
        detector_: The fitted :class:`~imbsam.anomaly.Detector`; its threshold tells what the estimates rest on.
        n_features_in_: Columns.
        feature_names_in_: Their names, where all are strings.

    Example:
        >>> detector = AnomalyDetector(random_state=0).fit(X, y)  # doctest: +SKIP
        >>> detector.predict(new_rows), detector.recall_, detector.false_alarm_rate_  # doctest: +SKIP
    """

    offset_: float

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers; or images ``(n_samples, *image_shape)``; or a
                data frame with columns of numbers, truth values, dates and texts, with gaps where it has others than
                numbers. What each column is holds for later rows: they are read the same way.
            y: 1 known anomaly, 0 unlabelled, -1 known normal, shape ``(n_samples,)``; ``None`` is all unlabelled.

        Returns:
            The detector itself.

        Raises:
            DataError: If a label is another, or the labels leave nothing to learn from.
            OptionError: If a parameter is unknown or out of range.
            ValueError: If ``X`` is no finite table of at least two rows.
        """
        self._fit(X, y, self.contamination)
        self.offset_ = -self.detector_.threshold.value
        return self

    def score_samples(self, X: ArrayLike) -> Scores:
        """Return how normal rows are: lower is more abnormal.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Shape ``(n_samples,)``, float64.
        """
        return -self._scores(X)

    def decision_function(self, X: ArrayLike) -> Scores:
        """Return how normal rows are, below 0 for anomalies.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Shape ``(n_samples,)``, float64.
        """
        normality: Scores = self.score_samples(X) - self.offset_
        return normality

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Tell anomalies from normal rows.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            -1 for anomalies and 1 for normal rows, shape ``(n_samples,)``.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)
