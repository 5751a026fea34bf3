"""Anomaly detector with the interface of scikit-learn's outlier detectors."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin

from imbsam.anomaly.estimator import ArrayDetector, Scores


class AnomalyDetector(OutlierMixin, ArrayDetector):  # type: ignore[misc]
    """Anomaly detector with a few labelled anomalies, as a scikit-learn outlier detector.

    The labelled anomalies are the tail of a sharpness-aware method. ``y`` holds 1 for a known anomaly, 0 for an
    unlabelled row and -1 for a row known to be normal. As everywhere in scikit-learn, ``predict`` returns 1 for normal
    rows and -1 for anomalies, and lower scores are more abnormal. Without labels the detector is Deep SVDD.

    Args:
        objective: Network, loss and score, one of :data:`~imbsam.anomaly.OBJECTIVES`. ``"auto"`` is ``"blend"`` for
            tables, several networks and a forest, and ``"devnet"`` for images.
        objective_options: Options of the objective, see :func:`~imbsam.anomaly.objective_options`.
        method: Method of training, one of :data:`imbsam.optim.METHODS`; ``"plain"`` is the base optimizer alone.
        method_options: Options of the method, see :func:`imbsam.optim.options_of`.
        rho: Neighbourhood size; by default what suits the objective, or the method where its rho is not a length.
        damping: Damping d of the perturbation, ``rho * g / (|g| + d)``, which keeps it short where the gradient is
            small.
        base: Base optimizer, a name of :func:`imbsam.optim.create`.
        lr: Learning rate; by default what suits the objective.
        weight_decay: Weight decay of the base optimizer; by default what suits the objective.
        steps: Number of steps of training, whatever the number of rows, and of pre-training an auto-encoder if there is
            one.
        epochs: Number of passes over the rows that are not labelled anomalies, instead of ``steps``.
        pretraining_epochs: Number of epochs of pre-training the auto-encoder, instead of ``epochs`` or ``steps``.
        batch_size: Number of rows (or pairs) in a batch, at least 2; fewer rows make a single batch.
        anomalies_per_batch: Number of rows (or pairs) in a batch with a labelled anomaly; 0 leaves it to chance. By
            default the objective's share of the batch.
        scaling: ``"standard"``, ``"minmax"`` or ``"none"``, fitted on the training rows; by default the objective's.
        image_shape: ``(channels, height, width)`` if the rows are images, flattened or not; a convolutional network is
            used for them.
        members: Number of networks whose standardised scores are averaged.
        contamination: Share of training rows to call anomalies, in (0, 0.5]. With ``"auto"`` each network leaves a
            fifth of the rows out of its training, and the threshold is chosen on the labelled anomalies and the other
            rows among them. Without enough labels ``"auto"`` is 0.1.
        other_labels: Treatment of any other label, including NaN: ``"error"`` refuses it, ``"unlabelled"`` takes its
            row for unlabelled. Three checks of scikit-learn's ``check_estimator`` use the label 2, and pass with the
            latter.
        strict: Refuse training rows without a labelled anomaly, instead of training without labels.
        precision: ``"double"``, or ``"single"``, which is faster and gives scores to about seven digits. By default
            double for tables and single for images.
        device: Device of the network, as torch names it.
        random_state: Seed; the same seed gives the same bits on the same machine.

    Attributes:
        offset_: Value subtracted from ``score_samples`` in ``decision_function``.
        recall_: Estimated share of anomalies found if the threshold was calibrated, else NaN.
        false_alarm_rate_: Estimated share of other rows called anomalies, including anomalies among them; else NaN.
        objective_: Objective that was trained; ``"deep-svdd"`` if there was no labelled anomaly.
        detector_: The fitted :class:`~imbsam.anomaly.Detector`; its threshold says what the estimates are based on.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns, if all are strings.

    Example:
        >>> detector = AnomalyDetector(random_state=0).fit(X, y)  # doctest: +SKIP
        >>> detector.predict(new_rows), detector.recall_, detector.false_alarm_rate_  # doctest: +SKIP
    """

    offset_: float

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train the detector.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers; or images ``(n_samples, *image_shape)``; or a
                data frame with columns of numbers, truth values, dates and texts, which may have missing values if not
                all columns are numbers. Later rows are read by the column types found here.
            y: Labels, shape ``(n_samples,)``: 1 for a known anomaly, 0 for unlabelled, -1 for known to be normal;
                ``None`` for all unlabelled.

        Returns:
            The detector itself.

        Raises:
            DataError: If there is any other label, or the labels leave nothing to learn from.
            OptionError: If a parameter is unknown or out of range.
            ValueError: If ``X`` is not a finite table of at least two rows.
        """
        self._fit(X, y, self.contamination)
        self.offset_ = -self.detector_.threshold.value
        return self

    def score_samples(self, X: ArrayLike) -> Scores:
        """Compute how normal rows are: lower is more abnormal.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Shape ``(n_samples,)``, float64.
        """
        return -self._scores(X)

    def decision_function(self, X: ArrayLike) -> Scores:
        """Compute how normal rows are, shifted so that anomalies are below 0.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Shape ``(n_samples,)``, float64.
        """
        normality: Scores = self.score_samples(X) - self.offset_
        return normality

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Predict which rows are anomalies.

        Args:
            X: Rows, shape ``(n_samples, n_features)``, finite numbers.

        Returns:
            Labels, -1 for anomalies and 1 for normal rows, shape ``(n_samples,)``.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)
