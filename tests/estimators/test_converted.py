"""A blend as a module says what the blend says, also after it was stored."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, save
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from imbsam import BlendClassifier, SharpClassifier
from imbsam.errors import ModelError
from imbsam.estimators.converted import blend_state, boosting_state, forest_state
from imbsam.models.blend import Blend
from imbsam.models.trees import Boosting, Forest

MEMBERS = {
    "network": SharpClassifier(max_iter=4, hidden=(8, 6)),
    "cosines": SharpClassifier(max_iter=4, hidden=(8,), loss="ldam"),
    "linear network": SharpClassifier(max_iter=4, hidden=(), early_stopping=True),
    "boosting": HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=3, early_stopping=False),
    "balanced boosting": HistGradientBoostingClassifier(max_iter=3, class_weight="balanced", early_stopping=False),
    "forest": RandomForestClassifier(12),
    "logistic": LogisticRegression(),
}


def module_of(blend):
    return Blend(load(save(blend_state(blend._blended, blend._reading))))


@pytest.fixture
def many_words(frame):
    X, y = frame
    draw = np.random.default_rng(2)
    return X.assign(word=draw.choice(list("abcdefghij"), len(y)), number=draw.normal(size=len(y))), y


@pytest.mark.parametrize("names", [*([name] for name in MEMBERS), list(MEMBERS)])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_module_of_a_blend_says_what_the_blend_says(many_words, names, classes):
    X, y = many_words
    y = y if classes == 3 else y == "common"
    blend = BlendClassifier([(name, MEMBERS[name]) for name in names], folds=2, random_state=0).fit(X, y)
    assert not blend.failed_
    other = X.assign(word=np.where(X["word"] == "a", "new", X["word"]), colour=None)
    for rows in (X, other):
        codes = torch.from_numpy(blend._reading.rows(rows).codes)
        np.testing.assert_allclose(module_of(blend)(codes).detach(), blend._outputs(rows), atol=1e-4)


def test_numbers_alone_and_a_member_of_weight_nothing(rows):
    X, y = rows
    members = [("forest", MEMBERS["forest"]), ("logistic", MEMBERS["logistic"])]
    blend = BlendClassifier(members, weights=[0, 1], folds=2, random_state=0).fit(X, y)
    codes = torch.from_numpy(blend._reading.rows(pd.DataFrame(X).rename(columns=str)).codes)
    np.testing.assert_allclose(module_of(blend)(codes).detach(), blend._outputs(X), atol=1e-4)


def test_members_of_other_kinds_are_refused_by_name(rows):
    blend = BlendClassifier([("bayes", GaussianNB())], folds=2, random_state=0).fit(*rows)
    with pytest.raises(ModelError, match="the member 'bayes' is a GaussianNB"):
        module_of(blend)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("is_categorical", [None, [False, True, False, True]])
def test_trees_say_bit_for_bit_what_scikit_learns_say(classes, is_categorical):
    draw = np.random.default_rng(0)
    y = draw.integers(0, classes, 600)
    X = draw.normal(size=(600, 4)).astype(np.float32)
    X[:, 1] = np.where(draw.random(600) < 0.7, y + 1, draw.integers(1, 40, 600))
    X[:, 3] = draw.integers(1, 8, 600)
    new = draw.normal(size=(300, 4)).astype(np.float32)
    new[:, 1], new[:, 3] = draw.integers(0, 41, 300), draw.integers(0, 9, 300)
    rows = torch.from_numpy(new)
    boosting = HistGradientBoostingClassifier(categorical_features=is_categorical, max_iter=9).fit(X, y)
    found = Boosting(boosting_state(boosting, (0, 41, 0, 9)))(rows).softmax(dim=1)
    np.testing.assert_allclose(found, boosting.predict_proba(new), rtol=1e-12)
    forest = RandomForestClassifier(9, random_state=0).fit(X, y)
    np.testing.assert_allclose(Forest(forest_state(forest))(rows), forest.predict_proba(new), rtol=1e-12)
