import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from anomaly.rows import blob_and_ring
from imbsam.anomaly import AnomalyDetector, PyODDetector
from imbsam.errors import OptionError

TRAIN, NEW = blob_and_ring(), blob_and_ring(seed=1)


@pytest.fixture(scope="module", params=[0.1, 0.25, "auto"])
def detector(request):
    return PyODDetector(epochs=20, lr=5e-3, contamination=request.param, random_state=0).fit(TRAIN.X, TRAIN.known)


@pytest.fixture
def of_pyod(detector):
    """PyOD's own detector, made of the same scores."""
    base = pytest.importorskip("pyod.models.base")

    class SameScores(base.BaseDetector):
        def __init__(self, contamination):
            super().__init__(contamination)

        def fit(self, X, y=None):
            self.decision_scores_ = detector.decision_function(X)
            self._classes = 2
            self._process_decision_scores()
            return self

        def decision_function(self, X):
            return detector.decision_function(X)

    if detector.contamination == "auto":
        pytest.skip("PyOD knows no calibrated threshold")
    return SameScores(contamination=detector.contamination).fit(TRAIN.X)


def test_fitted_attributes_are_those_of_pyod(detector, of_pyod):
    np.testing.assert_array_equal(detector.decision_scores_, of_pyod.decision_scores_)
    np.testing.assert_array_equal(detector.labels_, of_pyod.labels_)
    assert detector.threshold_ == pytest.approx(of_pyod.threshold_)
    assert (detector._mu, detector._sigma) == pytest.approx((of_pyod._mu, of_pyod._sigma))


def test_predictions_are_those_of_pyod(detector, of_pyod):
    np.testing.assert_array_equal(detector.predict(NEW.X), of_pyod.predict(NEW.X))
    np.testing.assert_allclose(detector.predict_confidence(NEW.X), of_pyod.predict_confidence(NEW.X), atol=1e-12)
    for method in ("linear", "unify"):
        np.testing.assert_allclose(
            detector.predict_proba(NEW.X, method=method), of_pyod.predict_proba(NEW.X, method=method), atol=1e-12
        )
    np.testing.assert_array_equal(
        detector.predict_with_rejection(NEW.X, T=5), of_pyod.predict_with_rejection(NEW.X, T=5, c_r=0.1)
    )
    np.testing.assert_allclose(detector._predict_rank(NEW.X), of_pyod._predict_rank(NEW.X))
    np.testing.assert_allclose(detector._predict_rank(NEW.X, True), of_pyod._predict_rank(NEW.X, True))


def test_anomalies_are_one_and_score_higher(detector):
    labels, scores = detector.predict(NEW.X), detector.decision_function(NEW.X)
    assert set(labels.tolist()) == {0, 1}
    assert ((scores > detector.threshold_) == (labels == 1)).all()
    assert roc_auc_score(NEW.truth, scores) > 0.9


def test_both_faces_are_one_detector(detector):
    options = detector.get_params()
    other = AnomalyDetector(**options).fit(TRAIN.X, TRAIN.known)
    np.testing.assert_array_equal(other.score_samples(NEW.X), -detector.decision_function(NEW.X))
    np.testing.assert_array_equal(other.predict(NEW.X) == -1, detector.predict(NEW.X) == 1)
    assert other.offset_ == -detector.threshold_


def test_confidence_comes_along_on_request(detector):
    labels, confidence = detector.predict(NEW.X, return_confidence=True)
    shares, again = detector.predict_proba(NEW.X, return_confidence=True)
    np.testing.assert_array_equal(labels, detector.predict(NEW.X))
    np.testing.assert_array_equal(shares, detector.predict_proba(NEW.X))
    np.testing.assert_array_equal(confidence, again)
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_probabilities_are_shares_of_one_that_keep_the_order(detector):
    for method in ("linear", "unify"):
        shares = detector.predict_proba(NEW.X, method=method)
        assert shares.shape == (300, 2)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        order = np.argsort(detector.decision_function(NEW.X))
        assert (np.diff(shares[order, 1]) >= 0).all()


def test_an_unknown_probability_conversion_is_refused(detector):
    with pytest.raises(OptionError, match="method must be 'linear' or 'unify'; got 'something'"):
        detector.predict_proba(NEW.X, method="something")


def test_fit_predict_gives_the_labels_of_the_training_rows():
    detector = PyODDetector(epochs=2, contamination=0.1, random_state=0)
    labels = detector.fit_predict(TRAIN.X, TRAIN.known)
    np.testing.assert_array_equal(labels, detector.labels_)
    assert labels.sum() == 30


def test_scores_of_training_without_labels_are_compared_with_the_truth():
    detector = PyODDetector(epochs=2, random_state=0)
    area = detector.fit_predict_score(TRAIN.X, TRAIN.truth)
    assert detector.objective_ == "deep-svdd"
    assert area == roc_auc_score(TRAIN.truth, detector.decision_scores_)
    precision = detector.fit_predict_score(TRAIN.X, TRAIN.truth, scoring="prc_n_score")
    assert precision == TRAIN.truth[np.argsort(-detector.decision_scores_)[:30]].mean()
    with pytest.raises(NotImplementedError, match="scoring must be"):
        detector.fit_predict_score(TRAIN.X, TRAIN.truth, scoring="something")


def test_equal_scores_of_all_training_rows_give_no_division_by_zero():
    detector = PyODDetector(epochs=2, contamination=0.1, random_state=0).fit(TRAIN.X, TRAIN.known)
    detector.decision_scores_ = np.zeros(300)
    detector._sigma = 0.0
    assert np.isfinite(detector.predict_proba(NEW.X)).all()
    assert np.isfinite(detector.predict_proba(NEW.X, method="unify")).all()


def test_it_can_be_cloned(detector):
    assert clone(detector).get_params() == detector.get_params()
