"""The second study: what to begin with on a table. The blend, its parts, and what people use.

A peer that is trained with balanced weights decides by its probabilities; one that is trained plainly decides by its
probabilities divided by the class priors. Either tells probabilities under the priors of the training rows, so that
log losses can be compared. Each peer has four configurations, the blend its defaults alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
import pandas as pd
from methods import LEAVES, TAU, TREES, Configuration, Make, _columns, boosting, forest, grid, network
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_sample_weight

from imbsam.estimators.combine import fitted_pool
from imbsam.estimators.folds import folds_of
from imbsam.estimators.members import Setting, member_of
from imbsam.estimators.tables import encoded_rows, learnt_columns
from imbsam.estimators.trained import evidence_of_all, trained
from imbsam.estimators.views import Reading

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
class Peer:
    """A classifier of other people, and the priors of its training rows."""

    classifier: object

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object:
        self.priors = np.bincount(y) / len(y)
        return self.classifier.fit(rows, y, **self.weights(y))

    def weights(self, y: np.ndarray) -> dict[str, np.ndarray]:
        return {}


@dataclass
class Plain(Peer):
    """A peer that is trained without weights; decided by its probabilities, divided by the priors or as they come."""

    divided: bool = True

    def tell(self, rows: pd.DataFrame) -> Told:
        told = self.classifier.predict_proba(rows)
        return told, told / self.priors if self.divided else told


@dataclass
class Weighted(Peer):
    """A peer that is trained with balanced weights; its probabilities are those of balanced classes."""

    by_rows: bool = False

    def weights(self, y: np.ndarray) -> dict[str, np.ndarray]:
        return {"sample_weight": compute_sample_weight("balanced", y)} if self.by_rows else {}

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


EVERY = ("imbsam", "sam", "plain", "boosting", "forest", "logistic")


@dataclass
class Blend:
    """The blend of some members, with its defaults; the members of one task are trained once for all blends."""

    members: tuple[str, ...]
    seed: int

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object:
        self.priors = np.bincount(y) / len(y)
        reading, self.models, said, judged = _trained(rows, y, self.seed)
        self.reading, self.chosen = reading, [EVERY.index(name) for name in self.members]
        self.pool = fitted_pool(said[self.chosen], y[judged], np.log(self.priors))
        return self

    def tell(self, rows: pd.DataFrame) -> Told:
        read = self.reading.rows(rows.rename(columns=str))
        said = np.stack(evidence_of_all([self.models[place] for place in self.chosen], read, n_jobs=1))
        evidence = self.pool.evidence(said, np.log(self.priors))
        return softmax(evidence + np.log(self.priors), axis=1), evidence


LAST: dict[str, object] = {}
"""The members of the last task, as a blend of others is next."""


def _trained(rows: pd.DataFrame, y: np.ndarray, seed: int) -> tuple:
    key = (seed, rows.shape, y.tobytes())
    if LAST.get("key") != key:
        frame = rows.rename(columns=str)
        columns = learnt_columns(frame, "auto")
        reading, read = Reading.learnt(encoded_rows(frame, columns).numpy(), columns)
        counts = np.bincount(y)
        setting = Setting(list(range(len(counts))), len(y), int(counts.min()), reading.cardinalities, seed, "cpu", 1)
        members = [member_of(name) for name in EVERY]
        found, failed = trained(members, read, y, folds_of(y, 5, seed), setting, verbose=False)
        if failed:
            raise RuntimeError(f"members failed: {failed}")
        judged = reduce(np.intersect1d, [each.rows for _, each in found], np.flatnonzero(counts[y] > 1))
        said = np.stack([each.at(judged) for _, each in found])
        LAST.update(key=key, value=(reading, [model for model, _ in found], said, judged))
    return LAST["value"]


def blend(*members: str) -> Make:
    """The blend of these members."""
    return lambda options, seed: Blend(members, seed)


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

TREES_AND_LINES = ("boosting", "forest", "logistic")

BLENDS = {
    "blend": (blend("imbsam", *TREES_AND_LINES), [{}]),
    "blend with SAM": (blend("sam", *TREES_AND_LINES), [{}]),
    "blend with SGD": (blend("plain", *TREES_AND_LINES), [{}]),
    "blend without network": (blend(*TREES_AND_LINES), [{}]),
    "blend without boosting": (blend("imbsam", "forest", "logistic"), [{}]),
    "blend without forest": (blend("imbsam", "boosting", "logistic"), [{}]),
    "blend without regression": (blend("imbsam", "boosting", "forest"), [{}]),
}

METHODS = {**BLENDS, **PEERS, **NETWORKS}
