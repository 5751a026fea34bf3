"""Logarithms of probabilities that may be 0, and under which priors classifiers of all kinds tell them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imbsam.errors import OptionError
from imbsam.estimators.evidence import evidence_of, implied_priors, votes_of

COUNTS = np.array([60, 30, 10])
TRAINING, BALANCED = COUNTS / 100, np.full(3, 1 / 3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10**6))
def test_one_more_vote_is_counted_for_the_priors(seed, votes):
    draw = np.random.default_rng(seed)
    probabilities, priors = draw.dirichlet(np.ones(4), 9), draw.dirichlet(np.full(4, 5.0))
    smoothed = probabilities * votes / (votes + 1) + priors / (votes + 1)
    np.testing.assert_allclose(evidence_of(probabilities, priors, votes=votes), np.log(smoothed / priors), atol=1e-12)


def test_no_vote_for_a_class_is_as_much_evidence_against_a_rare_as_against_a_frequent_one():
    priors = np.array([0.9, 0.001, 0.099])
    found = evidence_of(np.array([[0.0, 0.0, 1.0]]), priors, votes=99)
    assert found[0, 0] == pytest.approx(-np.log(100))
    assert found[0, 1] == pytest.approx(-np.log(100))


BALANCED_LOGISTIC = LogisticRegression(class_weight="balanced")
WEIGHTED = LogisticRegression(class_weight={0: 1.0, 1: 2.0, 2: 3.0})
WEIGHTED_PRIORS = np.array([60, 60, 30]) / 150

KNOWN = {
    "plain": (LogisticRegression(), TRAINING),
    "balanced": (BALANCED_LOGISTIC, BALANCED),
    "weighted": (WEIGHTED, WEIGHTED_PRIORS),
    "forest": (RandomForestClassifier(5, class_weight="balanced_subsample"), BALANCED),
    "boosting": (HistGradientBoostingClassifier(max_iter=2, class_weight="balanced"), BALANCED),
    "pipeline": (make_pipeline(StandardScaler(), BALANCED_LOGISTIC), BALANCED),
    "selection by a balanced one": (make_pipeline(SelectFromModel(BALANCED_LOGISTIC), GaussianNB()), TRAINING),
    "bagging": (BaggingClassifier(BALANCED_LOGISTIC, 3), BALANCED),
    "search": (GridSearchCV(LogisticRegression(), {"class_weight": ["balanced"]}, cv=2), BALANCED),
    "calibrated": (CalibratedClassifierCV(BALANCED_LOGISTIC, cv=2), TRAINING),
    "stacking": (
        StackingClassifier([("a", BALANCED_LOGISTIC)], final_estimator=LogisticRegression(), cv=2),
        TRAINING,
    ),
    "voting alike": (VotingClassifier([("a", BALANCED_LOGISTIC), ("b", BALANCED_LOGISTIC)], voting="soft"), BALANCED),
}


@pytest.fixture
def labelled():
    draw = np.random.default_rng(0)
    y = draw.permutation(np.repeat(np.arange(3), COUNTS))
    return draw.normal(size=(100, 2)) + 2 * np.eye(3)[y][:, :2], y


@pytest.mark.parametrize("case", KNOWN)
def test_the_priors_are_those_that_class_weights_leave(case, labelled):
    estimator, priors = KNOWN[case]
    np.testing.assert_allclose(implied_priors(estimator.fit(*labelled), COUNTS), priors, rtol=1e-12)


def test_evidence_of_weighted_and_plain_classifiers_is_the_same():
    draw = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [6000, 3000, 1000])
    X = draw.normal(size=(len(y), 2)) + 2 * np.eye(3)[y][:, :2]
    found = []
    for estimator in (LogisticRegression(C=1e6), LogisticRegression(C=1e6, class_weight="balanced")):
        fitted = estimator.fit(X, y)
        priors = implied_priors(fitted, np.bincount(y))
        found.append(evidence_of(fitted.predict_proba(X), priors, votes=len(y)))
    first, second = (each - each.mean(axis=1, keepdims=True) for each in found)
    assert np.abs(first - second).max() < 0.4
    assert np.abs(first).max() > 3


class Foreign(ClassifierMixin, BaseEstimator):
    """A classifier of another package, with the parameters that it would have."""

    def __init__(self, **params):
        vars(self).update(params)

    def get_params(self, deep=True):
        return dict(vars(self))


FOREIGN = {
    "catboost": ({"auto_class_weights": "Balanced"}, BALANCED),
    "catboost, roots": ({"auto_class_weights": "SqrtBalanced"}, np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
    "catboost, list": ({"class_weights": [1, 2, 3]}, WEIGHTED_PRIORS),
    "catboost, none": ({"auto_class_weights": None, "class_weights": None}, TRAINING),
    "lightgbm": ({"class_weight": None, "is_unbalance": True}, BALANCED),
    "xgboost": ({"scale_pos_weight": None}, TRAINING),
    "tabpfn": ({"balance_probabilities": True}, BALANCED),
    "tabpfn as it is": ({"balance_probabilities": False}, TRAINING),
    "imbalanced-learn": ({"sampling_strategy": "auto", "class_weight": None}, BALANCED),
    "ours, balanced": ({"class_prior": "balanced"}, BALANCED),
    "naive Bayes": ({"class_prior": [0.2, 0.3, 0.5], "fit_prior": True}, [0.2, 0.3, 0.5]),
    "naive Bayes, flat": ({"class_prior": None, "fit_prior": False}, BALANCED),
    "ours, deployed": ({"class_prior": np.array([0.2, 0.3, 0.5])}, [0.2, 0.3, 0.5]),
    "discriminant analysis": ({"priors": np.array([0.2, 0.3, 0.5])}, [0.2, 0.3, 0.5]),
    "ours": ({"class_prior": None}, TRAINING),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_packages_say_it_by_other_parameters(case):
    params, priors = FOREIGN[case]
    np.testing.assert_allclose(implied_priors(Foreign(**params), COUNTS), priors, rtol=1e-12)


def test_the_weight_of_the_positive_class_is_the_second_ones():
    np.testing.assert_allclose(implied_priors(Foreign(scale_pos_weight=np.float32(3)), np.array([75, 25])), [0.5, 0.5])


class Sampler:
    def fit_resample(self, X, y):
        return X, y


def test_what_is_resampled_is_balanced(labelled):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(*labelled)
    pipeline.steps.insert(0, ("sampler", Sampler()))
    np.testing.assert_allclose(implied_priors(pipeline, COUNTS), BALANCED)


@pytest.mark.parametrize(
    ("estimator", "match"),
    [
        (VotingClassifier([("a", BALANCED_LOGISTIC), ("b", WEIGHTED)]), "weight the classes differently"),
        (Foreign(sampling_strategy=0.5), "sampling_strategy=0.5"),
        (Foreign(class_prior={0: 0.5}), "class_prior"),
        (Foreign(class_prior="loss"), "class_prior='loss'"),
    ],
)
def test_priors_that_cannot_be_told_are_refused(estimator, match):
    with pytest.raises(OptionError, match=match):
        implied_priors(estimator, COUNTS)


def test_votes_are_trees_neighbours_or_else_rows(labelled):
    fits = {
        RandomForestClassifier(7): 7,
        ExtraTreesClassifier(6): 6,
        BaggingClassifier(n_estimators=4): 4,
        KNeighborsClassifier(3): 3,
        LogisticRegression(): 100,
    }
    for estimator, votes in fits.items():
        assert votes_of(estimator.fit(*labelled), 100) == votes
