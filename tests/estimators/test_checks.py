"""The whole of scikit-learn's own checks of an estimator."""

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from imbsam import BlendClassifier, SharpClassifier

SMALL = [
    ("network", SharpClassifier(max_iter=15, hidden=(16,), loss="logit-adjustment")),
    ("boosting", HistGradientBoostingClassifier(max_iter=10, early_stopping=False)),
    ("forest", RandomForestClassifier(10)),
]


@pytest.mark.usefixtures("array_checks")
@parametrize_with_checks([SharpClassifier(max_iter=15), BlendClassifier(SMALL, folds=2)])
def test_scikit_learn_finds_nothing_to_fault(estimator, check):
    check(estimator)
