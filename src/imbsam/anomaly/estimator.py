"""Common part of both interfaces: parameters, the reading of arrays and data frames, fit and score."""

import warnings
from collections.abc import Mapping
from math import prod
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from imbsam.anomaly.core import Detector, fit, named
from imbsam.anomaly.frames import frame_rows, learnt_columns, mixed_frame, numbers_of, pandas_frame
from imbsam.anomaly.labels import ANOMALY, OtherLabels, kinds_of
from imbsam.anomaly.registry import UNSUPERVISED, objective_named
from imbsam.anomaly.scaling import constant_columns
from imbsam.anomaly.settings import Precision, Scaling, Settings
from imbsam.anomaly.training import block_rows
from imbsam.data.columns import Columns
from imbsam.errors import DataError, DataWarning, OptionError

Scores = NDArray[np.float64]

FACE = ("image_shape", "other_labels", "random_state")
"""Parameters of the interface that the core does not have."""


class ArrayDetector(BaseEstimator):  # type: ignore[misc]
    """Parameters and attributes of :class:`~imbsam.anomaly.AnomalyDetector`, without the signs of an interface."""

    def __init__(
        self,
        objective: str = "auto",
        *,
        objective_options: Mapping[str, object] | None = None,
        method: str = "imbsam",
        method_options: Mapping[str, object] | None = None,
        rho: float | None = None,
        damping: float = 0.3,
        base: str = "adam",
        lr: float | None = None,
        weight_decay: float | None = None,
        steps: int = 800,
        epochs: int | None = None,
        pretraining_epochs: int | None = None,
        batch_size: int = 128,
        anomalies_per_batch: int | None = None,
        scaling: Scaling | None = None,
        image_shape: tuple[int, int, int] | None = None,
        members: int = 1,
        contamination: float | Literal["auto"] = "auto",
        strict: bool = False,
        other_labels: OtherLabels = "error",
        precision: Precision | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.objective = objective
        self.objective_options = objective_options
        self.method = method
        self.method_options = method_options
        self.rho = rho
        self.damping = damping
        self.base = base
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = steps
        self.epochs = epochs
        self.pretraining_epochs = pretraining_epochs
        self.batch_size = batch_size
        self.anomalies_per_batch = anomalies_per_batch
        self.scaling = scaling
        self.image_shape = image_shape
        self.members = members
        self.contamination = contamination
        self.strict = strict
        self.other_labels = other_labels
        self.precision = precision
        self.device = device
        self.random_state = random_state

    def _fit(self, X: ArrayLike, y: ArrayLike | None, contamination: float | Literal["auto"]) -> Tensor:
        """Fit, and return the training rows."""
        settings = Settings(
            **{
                **{name: value for name, value in self.get_params(deep=False).items() if name not in FACE},
                "objective_options": self.objective_options or {},
                "method_options": self.method_options or {},
                "contamination": contamination,
            }
        )
        if self.other_labels not in ("error", "unlabelled"):
            raise OptionError(f"other_labels must be 'error' or 'unlabelled'; got {self.other_labels!r}.")
        table = self._table(X, reset=True)
        kinds = kinds_of(y, len(table), others=self.other_labels)
        self._warn(table, kinds, labels_given=y is not None)
        # Drawn as scikit-learn's own estimators do, so that None follows numpy's global seed.
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.detector_: Detector = fit(table, kinds, settings, seed=seed)
        self.objective_: str = self.detector_.objective
        self.recall_: float = self.detector_.threshold.recall
        self.false_alarm_rate_: float = self.detector_.threshold.false_alarm_rate
        return table

    def _scores(self, X: ArrayLike) -> Scores:
        """Compute anomaly scores of rows, higher is more anomalous, shape ``(n_samples,)``."""
        check_is_fitted(self)
        scores: Scores = self.detector_.score(self._table(X, reset=False)).numpy()
        return scores

    def _table(self, X: ArrayLike, *, reset: bool) -> Tensor:
        """Return rows ``(n_samples, n_features)`` or images ``(n_samples, *image_shape)``; at least two in training."""
        shape = self.image_shape
        if shape is not None and (len(shape) != 3 or min(shape) < 1):
            raise OptionError(f"image_shape must be (channels, height, width); got {shape!r}.")
        if isinstance(X, np.ndarray | Tensor) and X.ndim > 2:
            if shape is None or tuple(X.shape[1:]) != tuple(shape):
                raise DataError(
                    f"X holds images of shape {tuple(X.shape[1:])}; image_shape is {shape!r}. Name the shape in "
                    "image_shape, channels first; X.transpose(0, 3, 1, 2) puts them there where they are last."
                )
            flat: ArrayLike = X.reshape(len(X), -1)
        else:
            flat = X
        frame = mixed_frame(X) if shape is None else None
        if reset:
            self._columns: Columns | None = None if frame is None else learnt_columns(frame)
        if frame is not None or (shape is None and self._columns is not None):
            found = validate_data(self, X, reset=reset, skip_check_array=True)
            if self._columns is not None:
                return frame_rows(self._framed(found), self._columns)
            flat = numbers_of(self._framed(found))
        least = 2 if reset else 1
        kept = [np.float64, np.float32, np.uint8]
        table = _tensor(validate_data(self, flat, dtype=kept, reset=reset, ensure_min_samples=least))
        if shape is None:
            return table
        if table.shape[1] != prod(shape):
            raise DataError(f"rows of X hold {table.shape[1]} numbers, images of image_shape={shape!r} {prod(shape)}.")
        return table.reshape(-1, *shape)

    def _framed(self, X: object) -> pd.DataFrame:
        """Return rows as a data frame, with columns named as in training."""
        found = pandas_frame(X)
        frame = pd.DataFrame(np.asarray(X, dtype=object)).infer_objects() if found is None else found
        names = getattr(self, "feature_names_in_", frame.columns)
        return frame.set_axis([str(name) for name in names], axis=1)

    def _warn(self, table: Tensor, kinds: Tensor, *, labels_given: bool) -> None:
        labelled = int((kinds == ANOMALY).sum())
        objective = named(self.objective, table.shape[1:])
        if labels_given and not self.strict and not labelled and objective_named(objective).least_anomalies:
            warnings.warn(
                f"y has no labelled anomaly (1), so {objective} has nothing to learn from: "
                f"{UNSUPERVISED} is trained instead, which needs none. strict=True makes this an error.",
                DataWarning,
                stacklevel=4,
            )
        if 2 * labelled > len(kinds):
            warnings.warn(
                f"y labels {labelled} of {len(kinds)} rows as anomalies, but anomalies should be rare. Check the "
                "encoding: 1 is a known anomaly, 0 unlabelled, -1 known to be normal; predict() of scikit-learn's "
                "outlier detectors has 1 for the normal rows.",
                DataWarning,
                stacklevel=4,
            )
        constant = [] if self._columns else constant_columns(torch.split(table, block_rows(table.shape[1:])))
        if constant:
            names = None if self.image_shape else getattr(self, "feature_names_in_", None)
            shown = ", ".join(str(column) if names is None else repr(str(names[column])) for column in constant[:5])
            warnings.warn(
                f"constant {'channels' if self.image_shape else 'columns'} carry no information and are ignored, in "
                f"new rows too: {shown}"
                f"{', ...' if len(constant) > 5 else ''}.",
                DataWarning,
                stacklevel=4,
            )

    def _html_repr(self) -> str:
        """Return what a notebook shows: scikit-learn's diagram of the parameters and, once fitted, the detector."""
        diagram: str = super()._html_repr()
        return diagram + self.detector_._repr_html_() if hasattr(self, "detector_") else diagram

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        # Labels of training rows are of few values, which scikit-learn's checks must be told to keep to.
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


def _tensor(array: NDArray[np.float64] | NDArray[np.float32] | NDArray[np.uint8]) -> Tensor:
    """Return the array's own memory if torch can use it: not read-only, without negative strides."""
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)
