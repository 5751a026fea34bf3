"""Detectors of a comparison by their names: those of this library, and peers from scikit-learn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from imbsam.anomaly.core import fit
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.registry import OBJECTIVES, objective_options
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.threshold import USUAL_SHARE
from imbsam.config import checked
from imbsam.errors import OptionError
from imbsam.optim import options_of
from imbsam.studies.specs import read_spec

Score = Callable[[Tensor, Tensor, Tensor, int], NDArray[np.float64]]
"""Function of ``(rows, kinds, other rows, seed)`` that returns scores of the other rows; higher is more anomalous."""

PEERS: Mapping[str, BaseEstimator] = {
    "forest": RandomForestClassifier(200, class_weight="balanced_subsample", min_samples_leaf=10),
    "boosting": HistGradientBoostingClassifier(
        max_iter=50, min_samples_leaf=5, l2_regularization=1.0, class_weight="balanced", early_stopping=False
    ),
    "logistic": LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000),
    "isolation-forest": IsolationForest(),
}
"""Classifiers of labelled anomalies against all other rows, and detectors without labels; options of our benchmark."""

DEFAULT = "default"


@dataclass(frozen=True)
class Contender:
    """Detector with options of its own.

    Args:
        label: Text of the user, ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.
        score: Function that fits it and scores other rows.
    """

    label: str
    score: Score


def contenders(labels: Sequence[str]) -> list[Contender]:
    """Read the names of detectors.

    Args:
        labels: Names, each ``default``, an objective or one of :data:`PEERS`, with or without options.

    Raises:
        OptionError: If a name or an option is unknown or out of range, or there are fewer than two different detectors.
    """
    if len(set(labels)) < max(2, len(labels)):
        raise OptionError(f"--detectors needs different detectors, at least two; got {' '.join(labels) or 'none'}.")
    return [Contender(label, _score(label)) for label in labels]


def _score(label: str) -> Score:
    name, values = read_spec(label, "--detectors")
    try:
        if name in PEERS:
            return _peer(PEERS[name], values)
        if name == DEFAULT or name in OBJECTIVES:
            return _ours(name, values)
    except OptionError as error:
        raise OptionError(f"--detectors {label}: {error}") from None
    names = ", ".join([DEFAULT, *OBJECTIVES, *PEERS])
    raise OptionError(f"--detectors {label}: there is no detector {name!r}; there are {names}.")


def _ours(name: str, values: Mapping[str, object]) -> Score:
    objective = {} if name == DEFAULT else {"objective": name}
    usual = checked(Settings, {key: value for key, value in values.items() if key == "method"} | objective)
    own = objective_options("blend" if usual.objective == "auto" else usual.objective)
    method = options_of(usual.method)
    shared = {f.name for f in fields(Settings)} - {"objective", "objective_options", "method_options", "contamination"}
    _check_known(values, [*shared, *own, *method])
    settings = checked(
        Settings,
        objective
        # A threshold calibrated on held-out rows has no part in a ranking.
        | {"contamination": USUAL_SHARE, "precision": "single"}
        | {key: value for key, value in values.items() if key in shared}
        | {"objective_options": {key: value for key, value in values.items() if key in own and key not in shared}}
        | {"method_options": {key: v for key, v in values.items() if key in method and key not in {*shared, *own}}},
    )

    def score(rows: Tensor, kinds: Tensor, others: Tensor, seed: int) -> NDArray[np.float64]:
        return fit(rows, kinds, replace(settings), seed=seed).score(others).numpy()

    return score


def _peer(estimator: BaseEstimator, values: Mapping[str, object]) -> Score:
    known = estimator.get_params(deep=False)
    _check_known(values, [name for name in known if name != "random_state"])
    options = {**known, **values}

    def score(rows: Tensor, kinds: Tensor, others: Tensor, seed: int) -> NDArray[np.float64]:
        fitted = make_pipeline(StandardScaler(), type(estimator)(**{**options, "random_state": seed}))
        fitted.fit(_flat(rows), (kinds == ANOMALY).numpy())
        if is_classifier(estimator):
            found: NDArray[np.float64] = fitted.predict_proba(_flat(others))[:, 1]
            return found
        return -np.asarray(fitted.score_samples(_flat(others)), dtype=np.float64)

    return score


def _check_known(values: Mapping[str, object], known: Sequence[str]) -> None:
    for name in values:
        if name not in known:
            raise OptionError(f"there is no option {name!r}; there are {', '.join(sorted(set(known)))}.")


def _flat(rows: Tensor) -> NDArray[np.float32]:
    """Return images as rows of their pixels."""
    return rows.flatten(1).to(torch.float32).numpy()
