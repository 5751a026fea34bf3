"""The second study: what to begin with on a table. The blend, its parts, and what people use.

A peer that is trained with balanced weights decides by its probabilities; one that is trained plainly decides by its
probabilities divided by the class priors. Either tells probabilities under the priors of the training rows, so that
log losses can be compared. Each peer has four configurations, the blend its defaults alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from methods import LEAVES, TAU, TREES, Configuration, Make, _columns, boosting, forest, grid, network
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_sample_weight

TINY = 1e-12
Told = tuple[np.ndarray, np.ndarray]
"""Probabilities under the training priors, and what is decided by; each ``(N, C)``."""


class Teller(Protocol):
    """What a method of this study gives."""

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object: ...

    def tell(self, rows: pd.DataFrame) -> Told: ...


@dataclass
class Ours:
    """A classifier of this library."""

    classifier: object

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object:
        return self.classifier.fit(rows, y)

    def tell(self, rows: pd.DataFrame) -> Told:
        decided = self.classifier.decision_function(rows)
        if decided.ndim == 1:
            decided = np.stack([-decided, decided], axis=1)
        return self.classifier.predict_proba(rows), decided


@dataclass
class Plain:
    """A peer that is trained without weights; decided by its probabilities, divided by the priors or as they come."""

    classifier: object
    divided: bool = True

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object:
        self.priors = np.bincount(y) / len(y)
        return self.classifier.fit(rows, y)

    def tell(self, rows: pd.DataFrame) -> Told:
        told = self.classifier.predict_proba(rows)
        return told, told / self.priors if self.divided else told


@dataclass
class Weighted:
    """A peer that is trained with balanced weights; its probabilities are those of balanced classes."""

    classifier: object
    by_rows: bool = False

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object:
        self.priors = np.bincount(y) / len(y)
        weights = {"sample_weight": compute_sample_weight("balanced", y)} if self.by_rows else {}
        return self.classifier.fit(rows, y, **weights)

    def tell(self, rows: pd.DataFrame) -> Told:
        decided = self.classifier.predict_proba(rows)
        joint = np.maximum(decided * self.priors, TINY)
        return joint / joint.sum(axis=1, keepdims=True), decided


@dataclass
class Frames:
    """A classifier of a package that wants its categories and columns in its own way."""

    kind: type
    options: Configuration
    words: bool = False

    def fit(self, rows: pd.DataFrame, y: np.ndarray, **more: object) -> "Frames":
        own = dict(self.options)
        if self.words:
            own["cat_features"] = list(self._read(rows).select_dtypes("object").columns)
        self.model = self.kind(**own).fit(self._read(rows), y, **more)
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        return self.model.predict_proba(self._read(rows))

    def _read(self, rows: pd.DataFrame) -> pd.DataFrame:
        read = rows.set_axis([f"c{place}" for place in range(rows.shape[1])], axis=1)
        if self.words:
            for name in read.select_dtypes("category"):
                read[name] = read[name].astype(str).astype(object)
        return read


def lightgbm(options: Configuration, seed: int) -> Frames:
    from lightgbm import LGBMClassifier

    return Frames(LGBMClassifier, {"n_estimators": 100, "verbose": -1, "n_jobs": 1, "random_state": seed, **options})


def xgboost(options: Configuration, seed: int) -> Frames:
    from xgboost import XGBClassifier

    own = {"n_estimators": 100, "n_jobs": 1, "enable_categorical": True, "random_state": seed}
    return Frames(XGBClassifier, {**own, **options})


def catboost(options: Configuration, seed: int) -> Frames:
    from catboost import CatBoostClassifier

    own = {"iterations": 300, "loss_function": "MultiClass", "thread_count": 1, "random_seed": seed}
    return Frames(CatBoostClassifier, {**own, "verbose": 0, "allow_writing_files": False, **options}, words=True)


def logistic(options: Configuration, seed: int) -> object:
    return make_pipeline(_columns(), LogisticRegression(max_iter=1000, random_state=seed, **options))


def blend(*members: str) -> Make:
    """The blend with its defaults, of these members."""

    def make(options: Configuration, seed: int) -> Teller:
        from imbsam import BlendClassifier

        return Ours(BlendClassifier(members, random_state=seed, **options))

    return make


def _put(wrap: Callable[..., Teller], make: Make, **how: object) -> Make:
    return lambda options, seed: wrap(make(options, seed), **how)


LIGHT = grid(learning_rate=(0.03, 0.1), num_leaves=(15, 31))
EXTREME = grid(learning_rate=(0.1, 0.3), max_depth=(3, 6))
CAT = grid(learning_rate=(0.05, 0.15), depth=(4, 6))
PENALTY = grid(C=(0.01, 0.1, 1.0, 10.0))

PEERS = {
    **{
        f"{name}, {how}": (_put(wrap, make, **options), configurations)
        for name, make, configurations in (
            ("LightGBM", lightgbm, LIGHT),
            ("XGBoost", xgboost, EXTREME),
            ("CatBoost", catboost, CAT),
        )
        for how, wrap, options in (("balanced", Weighted, {"by_rows": True}), ("divided", Plain, {}))
    },
    "boosting": (_put(Plain, boosting, divided=False), grid(**TREES)),
    "boosting, balanced": (_put(Weighted, boosting), grid(class_weight=("balanced",), **TREES)),
    "boosting, divided": (_put(Plain, boosting), grid(**TREES)),
    "forest, balanced": (_put(Weighted, forest), grid(class_weight=("balanced_subsample",), **LEAVES)),
    "forest, divided": (_put(Plain, forest), grid(**LEAVES)),
    "logistic, balanced": (_put(Weighted, logistic), [{"class_weight": "balanced", **options} for options in PENALTY]),
}

NETWORKS = {
    f"{name} network": (_put(Ours, network(method=method, loss="logit-adjustment", class_prior=None)), configurations)
    for name, method, configurations in (
        ("ImbSAM", "imbsam", grid(rho=(0.05, 0.2), tau=(1.0, 1.5))),
        ("SAM", "sam", grid(rho=(0.05, 0.2), tau=(1.0, 1.5))),
        ("SGD", "plain", grid(tau=TAU)),
    )
}

BLENDS = {
    "blend": (blend("imbsam", "boosting", "forest"), [{}]),
    "blend with SAM": (blend("sam", "boosting", "forest"), [{}]),
    "blend with SGD": (blend("plain", "boosting", "forest"), [{}]),
    "blend without network": (blend("boosting", "forest"), [{}]),
}

METHODS = {**BLENDS, **PEERS, **NETWORKS}
