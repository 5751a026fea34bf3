"""What the blend learns, leaves out, repeats and refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from imbsam import BlendClassifier, SharpClassifier
from imbsam.errors import DataError, DataWarning, OptionError
from imbsam.estimators import folds
from imbsam.estimators.combine import FLOOR

NETWORK = ("network", SharpClassifier(max_iter=5, hidden=(8,), loss="logit-adjustment"))
BOOSTING = ("boosting", HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3, early_stopping=False))
FOREST = ("forest", RandomForestClassifier(20))
LOGISTIC = ("logistic", LogisticRegression())
BAYES = ("bayes", GaussianNB())
SMALL = [NETWORK, BOOSTING, FOREST]


def quick(members=(LOGISTIC, FOREST), **parameters):
    return BlendClassifier(members, **{"random_state": 0, "folds": 3} | parameters)


class Failing(ClassifierMixin, BaseEstimator):
    def __init__(self, error=None):
        self.error = error

    def fit(self, X, y):
        if self.error is not None:
            raise self.error
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), np.nan)


def test_the_blend_of_digits_is_better_than_its_members():
    X, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(X, y, test_size=0.6, stratify=y, random_state=0)
    kept = np.concatenate([np.flatnonzero(train_y == c)[: 60 if c < 6 else 6] for c in range(10)])
    members = [("network", SharpClassifier(max_iter=30, hidden=(64,), loss="logit-adjustment")), "forest", BAYES]
    blend = quick(members).fit(train_x[kept], train_y[kept])
    alone = [
        balanced_accuracy_score(test_y, quick([member]).fit(train_x[kept], train_y[kept]).predict(test_x))
        for member in members
    ]
    together = balanced_accuracy_score(test_y, blend.predict(test_x))
    assert together > max(alone) - 0.01
    assert blend.scores_["blend"] == pytest.approx(together, abs=0.08)
    assert blend.scores_.keys() == {"network", "forest", "bayes", "blend"}


def test_what_it_says_is_the_pool_of_what_its_members_say(rows):
    X, y = rows
    blend = quick([LOGISTIC, BAYES], weights=[1, 3]).fit(X, y)
    shares = np.unique(y, return_counts=True)[1] / len(y)
    said = np.ones((len(X), 3))
    given = blend._reading.rows(pd.DataFrame(X).rename(columns=str)).of("one-hot")
    for model, weight in zip(blend._blended.models, (0.25, 0.75), strict=True):
        p = (len(X) * model.classifier.predict_proba(given) + shares) / (len(X) + 1) / shares
        said *= (3 * p / p.sum(axis=1, keepdims=True) + FLOOR) ** weight
    np.testing.assert_allclose(np.exp(blend.evidence(X)), said, rtol=1e-6)
    joint = said * shares
    np.testing.assert_allclose(blend.predict_proba(X), joint / joint.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(blend.predict(X), blend.classes_[said.argmax(axis=1)])


def test_every_row_is_judged_by_models_that_did_not_see_it(rows):
    X, y = rows
    y = np.random.default_rng(0).permutation(y)  # nothing to learn
    X = np.arange(len(y))[:, None] * 1.0
    blend = quick([("nearest", KNeighborsClassifier(1)), FOREST]).fit(X, y)
    assert all(score < 0.6 for score in blend.scores_.values())


def test_probabilities_are_calibrated_on_rows_that_no_model_saw(rows):
    X, y = rows
    sure = ("nearest", KNeighborsClassifier(1))
    blend = quick([sure]).fit(X, np.random.default_rng(0).permutation(y))
    assert blend._blended.pool.weights[0] < 0.2


@pytest.mark.parametrize("members", [SMALL, [NETWORK], [BOOSTING], [FOREST], ["logistic"]])
@pytest.mark.parametrize("rare", [1, 2])
def test_a_class_of_one_or_two_rows_breaks_nothing(rows, members, rare):
    X, y = rows
    kept = np.concatenate([np.flatnonzero(y != "rare"), np.flatnonzero(y == "rare")[:rare]])
    blend = quick(members).fit(X[kept], y[kept])
    assert blend.classes_.tolist() == ["common", "rare", "rarer"]
    assert not blend.failed_
    assert set(blend.weights_) == {name if isinstance(name, str) else name[0] for name in members}
    assert np.isfinite(blend.predict_log_proba(X)).all()


def test_two_classes_of_one_row_each_are_enough():
    blend = quick([NETWORK, "forest", "logistic"]).fit([[0.0], [1.0]], ["a", "b"])
    assert blend.predict([[0.0], [1.0]]).tolist() == ["a", "b"]
    assert blend.scores_ == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("no more of it"), "MemoryError: no more of it"),
        (RuntimeError("odd"), "RuntimeError: odd"),
        (None, "DataError: it did not give a probability for each of the 3 classes"),
    ],
)
def test_a_member_that_fails_is_left_out_by_name(rows, error, reason):
    X, y = rows
    with pytest.warns(DataWarning, match=f"left out. broken: {reason}"):
        blend = quick([LOGISTIC, ("broken", Failing(error)), BAYES], weights=[1, 2, 3]).fit(X, y)
    assert blend.members_ == ["logistic", "bayes"]
    assert blend.failed_["broken"].startswith(reason)
    assert blend.weights_ == {"logistic": 0.25, "bayes": 0.75}
    assert blend.scores_.keys() == {"logistic", "bayes", "blend"}


def test_where_all_members_fail_every_reason_is_told(rows):
    with pytest.raises(DataError, match=r"no member .* could be trained.*one: MemoryError.*two: RuntimeError: odd"):
        quick([("one", Failing(MemoryError())), ("two", Failing(RuntimeError("odd")))]).fit(*rows)


def test_an_interruption_is_no_failure_of_a_member(rows):
    with pytest.raises(KeyboardInterrupt):
        quick([LOGISTIC, ("stopped", Failing(KeyboardInterrupt()))]).fit(*rows)


def test_weights_left_for_failed_members_alone_are_refused(rows):
    with pytest.raises(DataError, match=r"no member of the blend of weight above 0 could be trained. broken: OSError"):
        quick([LOGISTIC, ("broken", Failing(OSError()))], weights=[0, 1]).fit(*rows)


def test_missing_values_categories_and_dates_are_read(frame):
    X, y = frame
    blend = quick([NETWORK, BOOSTING, FOREST, LOGISTIC], class_prior="training").fit(X, y)
    assert not blend.failed_
    assert blend.score(X, y) > 0.8
    assert blend.feature_names_in_.tolist() == list(X.columns)
    empty = X.assign(width=np.nan, colour="violet", grade=None)
    assert np.isfinite(blend.predict_proba(empty)).all()
    texts = X.assign(made=X["made"].dt.strftime("%Y-%m-%d"), code=X["code"].astype(str))
    np.testing.assert_array_equal(blend.predict_proba(texts), blend.predict_proba(X))


def test_what_there_is_to_say_of_columns_is_said_once(frame):
    X, y = frame
    with pytest.warns(DataWarning) as said:
        blend = quick([NETWORK, BOOSTING, LOGISTIC]).fit(X.assign(nothing=np.nan), y)
    assert len(said) == 1
    with pytest.warns(DataWarning) as said:
        blend.predict(X.assign(nothing=np.nan, code=["soon", *X["code"].astype(str)[1:]]))
    assert len(said) == 1


def test_categories_of_an_array_are_named(rows):
    X, y = rows
    X[:, 3] = np.random.default_rng(0).integers(0, 3, len(y))
    blend = quick([BOOSTING, LOGISTIC], categorical_features=[3]).fit(X, y)
    assert blend._reading.cardinalities == (0, 0, 0, 4)
    with pytest.raises(OptionError, match="there is no column 9"):
        quick(categorical_features=[9]).fit(X, y)


def test_weights_go_to_the_member_that_is_right_where_there_are_rows_enough(rows):
    X, y = rows
    X, y = np.tile(X, (4, 1)), np.tile(y, 4)
    X = X + np.random.default_rng(0).normal(size=X.shape) * 0.1
    guess = ("guess", GaussianNB(var_smoothing=1e6))
    blend = quick([LOGISTIC, guess]).fit(X, y)
    assert blend.weights_["logistic"] > 0.6
    assert sum(blend.weights_.values()) == pytest.approx(1)
    assert quick([LOGISTIC, guess], weights="equal").fit(X, y).weights_ == {"logistic": 0.5, "guess": 0.5}


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, np.nan], [[1, 2]]])
def test_weights_that_cannot_be_are_refused(rows, weights):
    with pytest.raises(OptionError, match="weights must be a number"):
        quick(weights=weights).fit(*rows)


@pytest.mark.parametrize(
    "parameters",
    [{"folds": 1}, {"weights": "best"}, {"members": "forest"}, {"n_jobs": 1.5}, {"members": None}, {"device": 3}],
)
def test_parameters_out_of_range_are_refused_in_scikit_learns_words(rows, parameters):
    with pytest.raises(ValueError, match="parameter of BlendClassifier must be"):
        BlendClassifier().set_params(**parameters).fit(*rows)


def test_frequencies_at_deployment_and_a_wanted_recall_decide(rows):
    X, y = rows
    blend = quick([BAYES, FOREST]).fit(X, y)
    evidence = blend.evidence(X)
    often = {"common": 0.1, "rare": 0.8, "rarer": 0.1}
    deployed = quick([BAYES, FOREST], class_prior=often).fit(X, y)
    expected = softmax(evidence + np.log([0.1, 0.8, 0.1]), axis=1)
    np.testing.assert_allclose(deployed.predict_proba(X), expected, rtol=1e-9)
    np.testing.assert_array_equal(deployed.predict(X), deployed.classes_[expected.argmax(axis=1)])
    wanted = quick([BAYES, FOREST], at_least={"recall": {"rarer": 1.0}}).fit(X, y)
    assert wanted.prices_[0].recall.hits == wanted.prices_[0].recall.rows == 30
    with pytest.raises(OptionError, match="'odd'"):
        quick(class_prior={"odd": 1}).fit(X, y)


def test_one_seed_gives_the_same_bit_for_bit_also_in_threads(frame):
    X, y = frame
    first, again, threads, other = (
        quick(SMALL, **parameters).fit(X, y).predict_log_proba(X)
        for parameters in ({}, {}, {"n_jobs": 4}, {"random_state": 1})
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, threads)
    assert not np.array_equal(first, other)


def test_blocks_of_rows_are_read_as_one(frame, monkeypatch):
    X, y = frame
    blend = quick(SMALL).fit(X, y)
    whole = blend.evidence(X)
    monkeypatch.setattr("imbsam.estimators.blend.BLOCK", 50)
    np.testing.assert_allclose(blend.evidence(X), whole, atol=1e-5)


def test_of_many_rows_one_part_is_held_out(rows, monkeypatch, capsys):
    monkeypatch.setattr(folds, "MANY_ROWS", 50)
    monkeypatch.setattr("imbsam.estimators.trained.MANY_ROWS", 50)
    monkeypatch.setattr(folds, "HELD_OUT", 30)
    blend = quick(SMALL, verbose=True).fit(*rows)
    trained_on = [line.partition(" s")[0].split(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert trained_on == [f"{name}: 93 rows" for name in ("network", "boosting", "forest")]
    assert blend.scores_.keys() == {"network", "boosting", "forest", "blend"}


def test_a_pickled_blend_says_the_same_and_a_clone_knows_nothing(frame):
    X, y = frame
    blend = quick([NETWORK, "logistic", FOREST]).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(blend)).predict_proba(X), blend.predict_proba(X))
    copy = clone(blend)
    assert copy.members[1] == "logistic"
    with pytest.raises(NotFittedError):
        copy.predict(X)
    np.testing.assert_array_equal(copy.fit(X, y).predict_proba(X), blend.predict_proba(X))


def test_parameters_of_members_are_searched():
    X, y = load_wine(return_X_y=True)
    grid = {"logistic__C": [1e-6, 1.0], "weights": ["equal"]}
    search = GridSearchCV(quick([LOGISTIC]), grid, cv=2, scoring="balanced_accuracy").fit(X, y)
    assert search.best_params_["logistic__C"] == 1.0
    assert LOGISTIC[1].C == 1.0


def test_a_member_is_replaced_by_its_name(rows):
    blend = quick([LOGISTIC, "forest"]).set_params(logistic=GaussianNB(), folds=2)
    assert isinstance(blend.get_params()["logistic"], GaussianNB)
    assert blend.members[1] == "forest"
    assert blend.folds == 2
    with pytest.raises(ValueError, match="Invalid parameter 'forests'"):
        blend.set_params(forests=GaussianNB())


def test_a_line_for_each_model_is_printed(rows, capsys):
    quick([LOGISTIC, FOREST], verbose=True).fit(*rows)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [*["logistic"] * 4, "forest"]
