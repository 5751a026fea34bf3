"""Classifiers that can be members of a blend, by name or the user's own, and the view of the table for each."""

import copy
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from imbsam.errors import OptionError
from imbsam.estimators.classifier import SharpClassifier
from imbsam.estimators.deciding import DecidingClassifier
from imbsam.estimators.evidence import Classifier
from imbsam.estimators.folds import MANY_ROWS
from imbsam.estimators.views import View
from imbsam.optim import METHODS

EPOCHS = 60
"""Number of epochs of a network that is named by its method."""

ROWS_SEEN = 4_000_000
"""Approximate largest number of training rows that such a network sees in all its epochs."""

TREES = 200

ROWS_PER_TREE = 100_000
"""Largest number of training rows of one tree of the forest."""

FOREST_BYTES = 2**29
"""Memory for the forest's nodes in bytes; the more rows, classes and trees, the larger its leaves."""

RARE_ROWS = 100
"""Number of training rows of a class below which gradient boosting makes all its rounds, without early stopping."""

MOST_CODES = 255
"""Largest number of codes of a categorical column that gradient boosting splits as categories."""

MemberSpec = str | tuple[str, Classifier]


@dataclass(frozen=True)
class Setting:
    """Data and device that a classifier is made for.

    Args:
        labels: Labels of the classes, length C.
        rows: Number of training rows.
        rarest: Training rows of the rarest class.
        cardinalities: Number of codes of each column, 0 for a number.
        seed: Seed of its random numbers.
        device: Device of networks.
        n_jobs: Threads of trees.
    """

    labels: Sequence[object]
    rows: int
    rarest: int
    cardinalities: tuple[int, ...]
    seed: int
    device: str = "cpu"
    n_jobs: int | None = None

    @property
    def splittable(self) -> list[bool]:
        """Categorical columns that gradient boosting splits as categories."""
        return [0 < number <= MOST_CODES for number in self.cardinalities]


@dataclass(frozen=True)
class Member:
    """Classifier of a blend.

    Args:
        name: Name in the blend.
        make: Function that makes a new classifier, not fitted.
        view: View of the table that it reads.
        has_bags: Whether it is a forest of bagged trees, where each row can be scored by the trees that did not see it.
    """

    name: str
    make: Callable[[Setting], Classifier]
    view: View = "one-hot"
    has_bags: bool = False


def member_of(spec: object) -> Member:
    """Find a member by name, or take the user's own classifier.

    Args:
        spec: Name, or pair of a name and a classifier.

    Raises:
        OptionError: If there is no such name, the package is not installed, or the classifier has no probabilities.
    """
    if isinstance(spec, str):
        return _named(spec)
    if isinstance(spec, tuple | list) and len(spec) == 2 and isinstance(spec[0], str):
        return _own(spec[0], spec[1])
    raise OptionError(f"a member is a name, or a pair of a name and a classifier; got {spec!r}.")


def names_of(members: Sequence[Member], taken: Sequence[str]) -> list[str]:
    """Return the members' names.

    Raises:
        OptionError: If there is no member, two names are equal, or one is the name of a parameter.
    """
    names = [member.name for member in members]
    if not names:
        raise OptionError("members is empty: name at least one, for example ('imbsam', 'boosting', 'forest').")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise OptionError(
                f"two members are called {name!r}: give one another name, for example ('other', {name!r}'s own)."
            )
        if name in taken or "__" in name or not name:
            raise OptionError(f"a member cannot be called {name!r}, the name of a parameter. Give it another name.")
    return names


def _named(name: str) -> Member:
    if name in METHODS:
        return Member(name, lambda setting: _network(name, setting), view="frame")
    if name in _SCIKIT_LEARN:
        return _SCIKIT_LEARN[name]
    if name in _PACKAGES:
        return Member(name, _from_package(name))
    known = ", ".join([*_SCIKIT_LEARN, *_PACKAGES, *METHODS])
    raise OptionError(f"there is no member {name!r}. There are {known}; or give a pair ({name!r}, a classifier).")


def _network(method: str, setting: Setting) -> Classifier:
    network = SharpClassifier(
        method,
        loss="logit-adjustment",
        max_iter=max(1, min(EPOCHS, ROWS_SEEN // setting.rows)),
        random_state=setting.seed,
        device=setting.device,
    )
    return cast(Classifier, network)


def _boosting(setting: Setting) -> Classifier:
    boosting = HistGradientBoostingClassifier(
        # It holds out a tenth of each class, which costs rare classes too much on fewer rows.
        early_stopping=setting.rows > MANY_ROWS and setting.rarest >= RARE_ROWS,
        categorical_features=setting.splittable,
        random_state=setting.seed,
    )
    return cast(Classifier, boosting)


def _forest(setting: Setting) -> Classifier:
    in_bag = min(setting.rows, ROWS_PER_TREE)
    # Two nodes a leaf, each of 64 bytes and a float64 for each class.
    leaves = FOREST_BYTES // (TREES * 2 * (64 + 8 * len(setting.labels)))
    forest = RandomForestClassifier(
        TREES,
        max_samples=in_bag if in_bag < setting.rows else None,
        min_samples_leaf=math.ceil(in_bag / max(leaves, 2)),
        random_state=setting.seed,
        n_jobs=setting.n_jobs,
    )
    return cast(Classifier, forest)


def _logistic(setting: Setting) -> Classifier:
    return cast(Classifier, LogisticRegression(max_iter=1000, random_state=setting.seed))


_SCIKIT_LEARN = {
    "boosting": Member("boosting", _boosting, view="codes"),
    "forest": Member("forest", _forest, has_bags=True),
    "logistic": Member("logistic", _logistic),
}

_PACKAGES: dict[str, tuple[str, Callable[[Setting], dict[str, object]]]] = {
    "catboost": (
        "CatBoostClassifier",
        lambda setting: {
            "random_seed": setting.seed,
            "thread_count": setting.n_jobs or 1,
            "allow_writing_files": False,
            "verbose": False,
        },
    ),
    "lightgbm": (
        "LGBMClassifier",
        lambda setting: {
            "random_state": setting.seed,
            "n_jobs": setting.n_jobs or 1,
            "verbosity": -1,
        },
    ),
    "xgboost": (
        "XGBClassifier",
        lambda setting: {"random_state": setting.seed, "n_jobs": setting.n_jobs or 1},
    ),
}


def _from_package(package: str) -> Callable[[Setting], Classifier]:
    name, options = _PACKAGES[package]
    try:
        kind = getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise OptionError(f"member {package!r}: the package is missing ({error}): pip install {package}") from error
    return lambda setting: cast(Classifier, kind(**options(setting)))


def _own(name: str, estimator: Classifier) -> Member:
    if isinstance(estimator, type) or not (hasattr(estimator, "get_params") and is_classifier(estimator)):
        raise OptionError(f"member {name!r} is {estimator!r}; give an instance of a scikit-learn classifier.")
    if not hasattr(estimator, "predict_proba"):
        raise OptionError(f"member {name!r} has no predict_proba. Put it into CalibratedClassifierCV, or leave it out.")
    is_network = isinstance(estimator, DecidingClassifier)
    is_boosting = isinstance(estimator, HistGradientBoostingClassifier)
    asked = estimator.get_params(deep=False).get("categorical_features")
    if (is_network and not _is(asked, "auto")) or (is_boosting and not _is(asked, "from_dtype")):
        raise OptionError(f"member {name!r}: categorical_features belong to the blend; leave them out of the member.")
    return Member(
        name,
        lambda setting: _made(estimator, setting, is_boosting=is_boosting),
        view="frame" if is_network else "codes" if is_boosting else "one-hot",
        has_bags=isinstance(estimator, RandomForestClassifier) and bool(estimator.get_params()["bootstrap"]),
    )


def _made(estimator: Classifier, setting: Setting, *, is_boosting: bool) -> Classifier:
    """Return a copy with a random seed of its own if it has none, for classes that are numbered."""
    try:
        made: Classifier = clone(estimator)
    except RuntimeError:
        # CatBoost copies a dict that it is given, which clone takes for a change of the parameter.
        made = copy.deepcopy(estimator)
    changed: dict[str, object] = {}
    for key, value in sorted(made.get_params(deep=True).items()):
        last = key.rpartition("__")[2]
        if last == "random_state" and value is None:
            changed[key] = setting.seed
        if last in ("class_weight", "class_weights") and isinstance(value, Mapping):
            changed[key] = _by_place(value, setting.labels)
    if is_boosting:
        changed["categorical_features"] = setting.splittable
    return made.set_params(**changed) if changed else made


def _by_place(weights: Mapping[object, float], labels: Sequence[object]) -> dict[int, float]:
    places = {label: place for place, label in enumerate(labels)}
    unknown = [label for label in weights if label not in places]
    if unknown:
        raise OptionError(f"class_weight: there is no class {unknown[0]!r}; there are {list(labels)[:20]}.")
    return {places[label]: weight for label, weight in weights.items()}


def _is(value: object, word: str) -> bool:
    return isinstance(value, str | np.str_) and value == word
