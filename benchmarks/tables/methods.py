"""What is compared: for each method four configurations, and how each is made."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Protocol

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE, BorderlineSMOTE
from imblearn.pipeline import make_pipeline
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from imbsam import SharpClassifier

EPOCHS = 60


class Classifier(Protocol):
    """What a method gives."""

    def fit(self, rows: pd.DataFrame, y: np.ndarray) -> object: ...

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray: ...


Configuration = Mapping[str, object]
Make = Callable[[Configuration, int], Classifier]


def network(**fixed: object) -> Make:
    """Our classifier; options ``tau`` and ``beta`` are the loss's, ``rise`` is the ascent's."""

    def make(options: Configuration, seed: int) -> Classifier:
        own = {**fixed, **options}
        of_loss, of_ascent = (
            {name: own.pop(name) for name in names if name in own} for names in (("tau", "beta"), ("rise",))
        )
        return SharpClassifier(
            **{"max_iter": EPOCHS, "loss": "cross-entropy", "class_prior": "loss", **own},
            loss_options=of_loss or None,
            ascent_options=of_ascent or None,
            random_state=seed,
            device="cpu",
        )

    return make


def boosting(options: Configuration, seed: int) -> Classifier:
    """Gradient boosting on categories as they are."""
    return HistGradientBoostingClassifier(
        categorical_features="from_dtype", early_stopping=False, random_state=seed, **options
    )


def forest(options: Configuration, seed: int) -> Classifier:
    """A random forest on one-hot columns."""
    return make_pipeline(_columns(), RandomForestClassifier(n_estimators=200, random_state=seed, **options))


def oversampled(last: type) -> Make:
    """SMOTE or Borderline-SMOTE on one-hot columns before a classifier."""

    def make(options: Configuration, seed: int) -> Classifier:
        own = dict(options)
        sampler = {"smote": SMOTE, "borderline": BorderlineSMOTE}[str(own.pop("sampler"))]
        more = {"n_estimators": 200} if last is RandomForestClassifier else {"early_stopping": False}
        return make_pipeline(
            _columns(), sampler(k_neighbors=4, random_state=seed), last(random_state=seed, **more, **own)
        )

    return make


def _columns():
    words = make_column_selector(dtype_include="category")
    numbers = make_column_selector(dtype_exclude="category")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=5)
    return make_column_transformer((one_hot, words), (StandardScaler(), numbers))


def grid(**values: Sequence[object]) -> list[Configuration]:
    """All combinations."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


RHO = (0.02, 0.05, 0.1, 0.3)
RISE = (0.003, 0.01, 0.03, 0.1)
TAU = (0.5, 1.0, 1.5, 2.0)
BOTH = grid(rho=(0.05, 0.2), tau=(1.0, 1.5))
TREES = {"learning_rate": (0.03, 0.1), "max_leaf_nodes": (15, 31)}
LEAVES = {"min_samples_leaf": (1, 3), "max_features": ("sqrt", 0.5)}

METHODS: dict[str, tuple[Make, list[Configuration]]] = {
    "SGD": (network(method="plain"), grid(lr=(0.03, 0.1), weight_decay=(0.0001, 0.005))),
    "SGD, classes re-weighted": (
        network(method="plain", loss="class-balanced"),
        grid(beta=(0.9, 0.99, 0.999, 0.9999)),
    ),
    "SGD, logit adjustment": (network(method="plain", loss="logit-adjustment"), grid(tau=TAU)),
    "SAM": (network(method="sam"), grid(rho=RHO)),
    "SAM, half the epochs": (network(method="sam", max_iter=EPOCHS // 2), grid(rho=RHO)),
    "SAM, logit adjustment": (network(method="sam", loss="logit-adjustment"), BOTH),
    "ImbSAM": (network(method="imbsam"), grid(rho=RHO)),
    "ImbSAM, random direction": (network(method="imbsam", ascent="random"), grid(rho=RHO)),
    "ImbSAM, logit adjustment": (network(method="imbsam", loss="logit-adjustment"), BOTH),
    "ImbSAM, rho by rise": (network(method="imbsam", ascent="rise", rho=0.5), grid(rise=RISE)),
    "ImbSAM, rho by rise, logit adjustment": (
        network(method="imbsam", ascent="rise", rho=0.5, loss="logit-adjustment"),
        grid(rise=(0.01, 0.03), tau=(1.0, 1.5)),
    ),
    "boosting": (boosting, grid(**TREES)),
    "boosting, balanced": (boosting, grid(class_weight=("balanced",), **TREES)),
    "forest": (forest, grid(**LEAVES)),
    "forest, balanced": (forest, grid(class_weight=("balanced_subsample",), **LEAVES)),
    "SMOTE, boosting": (
        oversampled(HistGradientBoostingClassifier),
        grid(sampler=("smote", "borderline"), learning_rate=(0.03, 0.1)),
    ),
    "SMOTE, forest": (
        oversampled(RandomForestClassifier),
        grid(sampler=("smote", "borderline"), min_samples_leaf=(1, 3)),
    ),
}
