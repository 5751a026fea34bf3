"""The detectors compared, each ``(task, seed) -> scores of the test rows``, higher is more anomalous.

The options of every method, ours and the others', are those that did best on the sets of `development.py`, none of
which is a set of the benchmark; they are the same for every task. Each is fitted on the training rows alone, scaling
included.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from protocol import Task
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imbsam.anomaly import AnomalyDetector

Score = Callable[[Task, int], np.ndarray]


def supervised(make: Callable[[int], object]) -> Score:
    """A classifier of labelled anomalies against all other rows."""

    def score(task: Task, seed: int) -> np.ndarray:
        return make(seed).fit(task.X_train, task.y_train).predict_proba(task.X_test)[:, 1]

    return score


def isolation_forest(task: Task, seed: int) -> np.ndarray:
    """Without labels."""
    return -IsolationForest(random_state=seed).fit(task.X_train).score_samples(task.X_test)


def xgbod(task: Task, seed: int) -> np.ndarray:
    """XGBoost on the columns and on the scores of unsupervised detectors."""
    from pyod.models.hbos import HBOS
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.lof import LOF
    from pyod.models.xgbod import XGBOD

    unsupervised = [KNN(n_neighbors=5), KNN(n_neighbors=20), LOF(), HBOS(), IForest(random_state=seed)]
    scale = StandardScaler().fit(task.X_train)
    flags = [False] * len(unsupervised)
    model = XGBOD(unsupervised, standardization_flag_list=flags, n_jobs=1, random_state=seed)
    return model.fit(scale.transform(task.X_train), task.y_train).decision_function(scale.transform(task.X_test))


def deepod_deep_sad(task: Task, seed: int) -> np.ndarray:
    """1000 steps of DeepOD's Deep SAD; its own 100 epochs are worse on the development sets."""
    from deepod.models import DeepSAD

    scale = StandardScaler().fit(task.X_train)
    epochs = int(np.clip(round(1000 * 64 / len(task.X_train)), 1, 100))
    model = DeepSAD(epochs=epochs, hidden_dims="32", rep_dim=16, device="cpu", verbose=0, random_state=seed)
    model.fit(scale.transform(task.X_train), task.y_train)
    return model.decision_function(scale.transform(task.X_test))


def ours(**options: object) -> Score:
    """A detector of this library; threshold calibration, which costs a fifth of the rows, has no part in a ranking."""

    def score(task: Task, seed: int) -> np.ndarray:
        detector = AnomalyDetector(**options, contamination=0.1, precision="single", random_state=seed)
        return -detector.fit(task.X_train, task.y_train).score_samples(task.X_test)

    return score


def catboost(seed: int) -> object:
    from catboost import CatBoostClassifier

    own = {"iterations": 200, "auto_class_weights": "Balanced", "thread_count": 1, "random_seed": seed}
    return CatBoostClassifier(**own, verbose=0, allow_writing_files=False)


def lightgbm(seed: int) -> object:
    from lightgbm import LGBMClassifier

    own = {"n_estimators": 100, "class_weight": "balanced", "n_jobs": 1, "random_state": seed}
    return LGBMClassifier(**own, verbosity=-1)


@lru_cache(maxsize=1)
def blended(task: Task, seed: int) -> AnomalyDetector:
    """The default detector, fitted once for all that is asked of it."""
    detector = AnomalyDetector(contamination=0.1, precision="single", random_state=seed)
    return detector.fit(task.X_train, task.y_train)


def blend(task: Task, seed: int) -> np.ndarray:
    """The default."""
    return -blended(task, seed).score_samples(task.X_test)


def networks_of_the_blend(task: Task, seed: int) -> np.ndarray:
    """The default, whose forests have no part in the score; the networks still see the isolation forest's."""
    (member,) = blended(task, seed).detector_.members
    weights = member.objective.weights
    kept = weights.clone()
    try:
        weights.zero_()
        return blend(task, seed)
    finally:
        weights.copy_(kept)


METHODS: Mapping[str, Score] = {
    "ImbSAM": ours(objective="devnet"),
    "SAM": ours(objective="devnet", method="sam"),
    "Adam": ours(objective="devnet", method="plain"),
    "logistic regression": supervised(
        lambda _: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    ),
    "random forest": supervised(
        lambda seed: RandomForestClassifier(
            200, class_weight="balanced_subsample", min_samples_leaf=10, random_state=seed
        )
    ),
    "gradient boosting": supervised(
        lambda seed: HistGradientBoostingClassifier(
            max_iter=50,
            min_samples_leaf=5,
            l2_regularization=1.0,
            class_weight="balanced",
            early_stopping=False,
            random_state=seed,
        )
    ),
    "XGBOD": xgbod,
    "Deep SAD (DeepOD)": deepod_deep_sad,
    "isolation forest": isolation_forest,
    "HSC, ImbSAM": ours(objective="hsc"),
    "Deep SAD, ImbSAM": ours(objective="deep-sad"),
    "blend": blend,
    "blend without trees": networks_of_the_blend,
    "blend, Adam": ours(method="plain"),
    "blend, SAM": ours(method="sam"),
    "CatBoost": supervised(catboost),
    "LightGBM": supervised(lightgbm),
}
"""The first three are one network under three optimizers, with the same sampler and budget; `blend` is the default."""
