"""Evidence: a classifier's probabilities of a row without the class priors.

``e = log p(y | x) - log prior(y)`` under the priors that the classifier was trained for; ``softmax(e + log q)`` is its
posterior under class priors q.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from imbsam.errors import OptionError

Floats = NDArray[np.float64]

_VOTING = (RandomForestClassifier, ExtraTreesClassifier, BaggingClassifier)


class Classifier(Protocol):
    """Classifier of scikit-learn that gives probabilities."""

    classes_: NDArray[np.int64]

    def fit(self, X: object, y: object) -> object: ...  # noqa: D102

    def predict_proba(self, X: object) -> Floats: ...  # noqa: D102

    def get_params(self, deep: bool = True) -> dict[str, object]: ...  # noqa: D102

    def set_params(self, **params: object) -> Self: ...  # noqa: D102


def evidence_of(probabilities: Floats, priors: Floats, *, votes: int) -> Floats:
    """Remove the class priors from probabilities: ``e = log p - log prior``.

    A probability of 0 means that some votes or rows did not show a class, not that it is impossible: one more vote,
    for the priors, is added to each row's, as in Laplace smoothing.

    Args:
        probabilities: Probabilities, shape ``(N, C)``.
        priors: Class priors of the probabilities, shape ``(C,)``, all above 0.
        votes: Number of votes that they are based on: trees of a forest, or training rows.

    Returns:
        Evidence, shape ``(N, C)``.
    """
    return np.asarray(np.log((votes * probabilities.astype(np.float64) + priors) / (votes + 1)) - np.log(priors))


def votes_of(classifier: Classifier, rows: int) -> int:
    """Count the votes that a fitted classifier's probabilities are based on: its voters, or else its training rows."""
    if isinstance(classifier, KNeighborsClassifier):
        return int(classifier.n_neighbors)
    return len(classifier.estimators_) if isinstance(classifier, _VOTING) else rows


def implied_priors(estimator: Classifier, counts: NDArray[np.int64]) -> Floats:
    """Find the class priors of a fitted classifier's probabilities.

    They are those of its training rows, unless it weights or resamples the classes: ``class_weight``, CatBoost's
    ``auto_class_weights`` and ``class_weights``, ``scale_pos_weight``, ``is_unbalance``, TabPFN's
    ``balance_probabilities``, imbalanced-learn's ``sampling_strategy``; or it is given them: ``class_prior``,
    ``priors``, ``fit_prior``. All this in the classifier itself or one inside it.

    Args:
        estimator: Classifier fitted on classes ``0 .. C-1``.
        counts: Training rows of each class, shape ``(C,)``, all above 0.

    Returns:
        Class priors, shape ``(C,)``, which sum to 1.

    Raises:
        OptionError: If the classifiers inside weight the classes differently, or resample to frequencies of their own.
    """
    deciding, resampled = _deciding(estimator)
    found = [1 / counts] if resampled else []
    if deciding is not None and not resampled:
        for name, value in deciding.get_params(deep=True).items():
            weights = _weights(name.rpartition("__")[2], value, counts)
            if weights is not None:
                found.append(weights / weights.sum())
    if any(not np.allclose(weights, found[0]) for weights in found[1:]):
        raise OptionError(
            "the classifiers inside weight the classes differently; give all of them the same class_weight."
        )
    priors = counts * (found[0] if found else 1.0)
    return np.asarray(priors / priors.sum(), dtype=np.float64)


def _deciding(estimator: Classifier) -> tuple[Classifier | None, bool]:
    """Return the classifier whose weights decide, None behind a calibration; and whether classes are resampled."""
    steps = getattr(estimator, "steps", None)
    if steps:
        deciding, resampled = _deciding(steps[-1][1])
        return deciding, resampled or any(hasattr(step, "fit_resample") for _, step in steps)
    if hasattr(estimator, "calibrated_classifiers_"):
        return None, False
    for inside in ("best_estimator_", "final_estimator_"):
        if hasattr(estimator, inside):
            return _deciding(getattr(estimator, inside))
    return estimator, False


def _weights(name: str, value: object, counts: NDArray[np.int64]) -> Floats | None:
    """Return the class weights that a parameter defines; None if it defines none."""
    inverse = 1 / counts
    match name, value:
        case "class_prior" | "priors", list() | tuple() | np.ndarray():
            return np.array(value, dtype=np.float64) / counts
        case ("class_weight", "balanced" | "balanced_subsample") | ("auto_class_weights", "Balanced"):
            return inverse
        case ("is_unbalance" | "balance_probabilities", True) | ("fit_prior", False) | ("class_prior", "balanced"):
            return inverse
        case "auto_class_weights", "SqrtBalanced":
            return np.asarray(np.sqrt(inverse))
        case "class_weight" | "class_weights", Mapping():
            return np.array([float(value.get(place, 1.0)) for place in range(len(counts))])
        case "class_weights", list() | tuple() | np.ndarray():
            return np.array(value, dtype=np.float64)
        case "scale_pos_weight", Real() if value != 1:
            return np.array([1.0, float(value)])
        case "sampling_strategy", None:
            return None
        case "sampling_strategy", str():
            return inverse
        case ("sampling_strategy", object()) | ("class_prior", Mapping() | "loss"):
            raise OptionError(f"{name}={value!r} inside a member: its class priors are unknown. Leave it out.")
    return None
