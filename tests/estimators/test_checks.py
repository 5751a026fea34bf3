"""The whole of scikit-learn's own checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from imbsam import SharpClassifier


@pytest.mark.usefixtures("array_checks")
@parametrize_with_checks([SharpClassifier(max_iter=15)])
def test_scikit_learn_finds_nothing_to_fault(estimator, check):
    check(estimator)
