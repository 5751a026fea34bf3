"""Members by name and the user's own: which there are, what is refused, what each is made for."""

import sys

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imbsam import SharpClassifier
from imbsam.errors import OptionError
from imbsam.estimators import members
from imbsam.estimators.members import Setting, member_of, names_of
from imbsam.optim import METHODS

SETTING = Setting(["a", "b"], rows=100, rarest=9, cardinalities=(0, 3, 300), seed=7)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_member_by_its_name(name):
    member = member_of(name)
    network = member.make(SETTING)
    assert (network.method, network.loss, network.random_state) == (name, "logit-adjustment", 7)
    assert member.view == "frame"


@pytest.mark.parametrize(("rows", "epochs"), [(100, 60), (10**6, 4), (10**7, 1)])
def test_a_network_makes_fewer_epochs_of_many_rows(rows, epochs):
    assert member_of("imbsam").make(Setting(["a", "b"], rows, 9, (0,), 0)).max_iter == epochs


def test_boosting_splits_categories_of_not_too_many_codes():
    boosting = member_of("boosting").make(SETTING)
    assert boosting.categorical_features == [False, True, False]
    assert member_of("boosting").view == "codes"
    own = member_of(("own", HistGradientBoostingClassifier(max_iter=3)))
    assert own.view == "codes"
    assert own.make(SETTING).categorical_features == [False, True, False]


@pytest.mark.parametrize(("rows", "rarest", "stops"), [(20_000, 5000, False), (20_001, 99, False), (20_001, 100, True)])
def test_boosting_holds_rows_out_to_stop_where_there_are_many_of_each_class(rows, rarest, stops):
    assert member_of("boosting").make(Setting(["a", "b"], rows, rarest, (0,), 0)).early_stopping == stops


@pytest.mark.parametrize(
    ("rows", "classes", "largest"),
    [(100, 2, None), (100_000, 2, None), (10**6, 2, 100_000), (10**6, 500, 100_000)],
)
def test_the_forest_keeps_to_its_memory(rows, classes, largest):
    forest = member_of("forest").make(Setting(list(range(classes)), rows, 9, (0,), 0))
    assert forest.max_samples == largest
    leaves = (largest or rows) / forest.min_samples_leaf
    assert forest.n_estimators * 2 * leaves * (64 + 8 * classes) <= members.FOREST_BYTES * 1.01
    assert rows > 100 or forest.min_samples_leaf == 1


def test_a_package_that_is_not_installed_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(OptionError, match="pip install catboost"):
        member_of("catboost")


def test_ones_own_classifier_is_copied_and_draws_by_the_seed_where_it_names_none():
    mine = make_pipeline(StandardScaler(), RandomForestClassifier())
    made = member_of(("mine", mine)).make(SETTING)
    assert made is not mine
    assert made.get_params()["randomforestclassifier__random_state"] == 7
    assert mine.get_params()["randomforestclassifier__random_state"] is None
    assert member_of(("mine", RandomForestClassifier(random_state=3))).make(SETTING).random_state == 3


def test_class_weights_by_label_are_those_of_the_numbered_classes():
    mine = make_pipeline(StandardScaler(), LogisticRegression(class_weight={"b": 3, "a": 2}))
    made = member_of(("mine", mine)).make(SETTING)
    assert made.get_params()["logisticregression__class_weight"] == {0: 2, 1: 3}
    with pytest.raises(OptionError, match="there is no class 'c'"):
        member_of(("mine", LogisticRegression(class_weight={"c": 3}))).make(SETTING)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("bosting", "there is no member 'bosting'. There are boosting, forest, logistic"),
        (("mine", RidgeClassifier()), "'mine' has no predict_proba"),
        (("mine", LogisticRegression), "give an instance"),
        (("mine", LinearRegression()), "scikit-learn classifier"),
        (("mine", "forest"), "give an instance"),
        (("mine", SharpClassifier(categorical_features=[0])), "belong to the blend"),
        (("mine", HistGradientBoostingClassifier(categorical_features=[0])), "belong to the blend"),
        (LogisticRegression(), "a name, or a pair"),
        (("a", "b", "c"), "a name, or a pair"),
        (3, "a name, or a pair"),
    ],
)
def test_what_is_no_member_is_refused(spec, match):
    with pytest.raises(OptionError, match=match):
        member_of(spec)


@pytest.mark.parametrize(
    ("specs", "match"),
    [
        ([], "members is empty"),
        (["forest", "forest"], "two members are called 'forest'"),
        (["forest", ("forest", LogisticRegression())], "two members are called 'forest'"),
        ([("weights", LogisticRegression())], "cannot be called 'weights'"),
        ([("a__b", LogisticRegression())], "cannot be called 'a__b'"),
        ([("", LogisticRegression())], "cannot be called ''"),
    ],
)
def test_names_are_told_apart(specs, match):
    with pytest.raises(OptionError, match=match):
        names_of([member_of(spec) for spec in specs], ["weights"])


def test_only_a_forest_with_bags_of_its_own_is_judged_by_them():
    assert member_of("forest").has_bags
    assert member_of(("mine", RandomForestClassifier())).has_bags
    assert not member_of(("mine", RandomForestClassifier(bootstrap=False))).has_bags
    assert not any(member_of(name).has_bags for name in ("boosting", *METHODS))
