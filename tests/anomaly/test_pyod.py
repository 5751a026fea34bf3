import joblib
import numpy as np
import pytest
from pyod.models import combination, thresholds
from pyod.models.base import BaseDetector
from pyod.models.feature_bagging import FeatureBagging
from pyod.models.iforest import IForest
from pyod.models.lscp import LSCP
from pyod.utils.data import evaluate_print, generate_data
from pyod.utils.utility import precision_n_scores, standardizer
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from anomaly.rows import blob_and_ring, digits
from imbsam.anomaly import AnomalyDetector, PyODDetector
from imbsam.errors import OptionError

TRAIN, NEW = blob_and_ring(), blob_and_ring(seed=1)


def fitted(contamination):
    return PyODDetector(epochs=20, lr=5e-3, contamination=contamination, random_state=0).fit(TRAIN.X, TRAIN.known)


@pytest.fixture(scope="module", params=[0.1, 0.25, "auto"])
def detector(request):
    return fitted(request.param)


@pytest.fixture(scope="module", params=[0.1, 0.25])
def pair(request):
    """A detector, and PyOD's own base class on the same scores."""
    detector = fitted(request.param)

    class SameScores(BaseDetector):
        def __init__(self, contamination):
            super().__init__(contamination)

        def fit(self, X, y=None):
            self.decision_scores_ = detector.decision_function(X)
            self._classes = 2
            self._process_decision_scores()
            return self

        def decision_function(self, X):
            return detector.decision_function(X)

    return detector, SameScores(contamination=request.param).fit(TRAIN.X)


def test_fitted_attributes_are_those_of_pyod(pair):
    detector, of_pyod = pair
    np.testing.assert_array_equal(detector.decision_scores_, of_pyod.decision_scores_)
    np.testing.assert_array_equal(detector.labels_, of_pyod.labels_)
    assert detector.threshold_ == pytest.approx(of_pyod.threshold_)
    assert (detector._mu, detector._sigma) == pytest.approx((of_pyod._mu, of_pyod._sigma))


def test_predictions_are_those_of_pyod(pair):
    detector, of_pyod = pair
    np.testing.assert_array_equal(detector.predict(NEW.X), of_pyod.predict(NEW.X))
    np.testing.assert_allclose(detector.predict_confidence(NEW.X), of_pyod.predict_confidence(NEW.X), atol=1e-12)
    for method in ("linear", "unify"):
        np.testing.assert_allclose(
            detector.predict_proba(NEW.X, method=method), of_pyod.predict_proba(NEW.X, method=method), atol=1e-12
        )
    np.testing.assert_array_equal(
        detector.predict_with_rejection(NEW.X, T=5), of_pyod.predict_with_rejection(NEW.X, T=5, c_r=0.1)
    )
    costs = {"c_fp": 2.0, "c_fn": 3.0, "c_r": 0.4}
    for T in (5, 32):
        ours, theirs = (each.predict_with_rejection(NEW.X, T, True, 0.2, **costs) for each in pair)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4)
    np.testing.assert_allclose(
        detector.compute_rejection_stats(), of_pyod.compute_rejection_stats(c_r=detector.contamination), rtol=1e-4
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
    assert precision == precision_n_scores(TRAIN.truth, detector.decision_scores_)
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


@pytest.mark.parametrize("objective", ["hsc", "deep-sad", "devnet"])
@pytest.mark.parametrize("labelled", [True, False])
def test_it_finds_the_outliers_of_pyods_generator(objective, labelled):
    rows, new, truth, new_truth = generate_data(n_train=200, n_test=100, contamination=0.1, random_state=42)
    detector = PyODDetector(objective, epochs=20, contamination=0.1, random_state=0).fit(
        rows, truth if labelled else None
    )
    assert len(detector.decision_scores_) == 200
    assert detector.predict(new).shape == new_truth.shape
    assert roc_auc_score(new_truth, detector.decision_function(new)) >= 0.8


@pytest.mark.parametrize("normalized", [True, False])
def test_ranks_keep_the_order_of_scores(detector, normalized):
    ranks, scores = detector._predict_rank(NEW.X, normalized=normalized), detector.decision_function(NEW.X)
    assert ranks.min() >= 0
    assert ranks.max() <= (1 if normalized else 300)
    # New scores between the same two training scores share a rank.
    np.testing.assert_allclose(rankdata(ranks), rankdata(scores), atol=8)


def test_more_rows_are_rejected_the_surer_one_must_be(detector):
    rejected = [(detector.predict_with_rejection(NEW.X, T=T) == -2).sum() for T in (0.7, 5, 32)]
    assert rejected == sorted(rejected)
    assert rejected[0] < rejected[-1] < 300
    kept = detector.predict_with_rejection(NEW.X)
    assert (kept == detector.predict(NEW.X))[kept != -2].all()


def test_what_rejection_costs_comes_along_on_request(detector):
    labels, stats = detector.predict_with_rejection(NEW.X, return_stats=True)
    np.testing.assert_array_equal(labels, detector.predict_with_rejection(NEW.X))
    rejected, bound, cost = stats
    assert 0 <= rejected <= bound
    assert cost >= 0
    # PyOD's way to ask for the default.
    assert detector.compute_rejection_stats(c_r=-1) == detector.compute_rejection_stats() == (rejected, bound, cost)
    with pytest.raises(OptionError, match=r"delta must be in \(0, 1\); got 1"):
        detector.compute_rejection_stats(delta=1)


@pytest.mark.parametrize("name", ["IQR", "KARCH", "FILTER"])
def test_a_thresholder_of_pythresh_may_tell_anomalies_by_the_scores(name):
    thresholder = getattr(thresholds, name)()
    detector = PyODDetector(epochs=20, lr=5e-3, contamination=thresholder, random_state=0).fit(TRAIN.X, TRAIN.known)
    fresh = getattr(thresholds, name)().fit(detector.decision_scores_)
    np.testing.assert_array_equal(detector.labels_, fresh.labels_)
    np.testing.assert_array_equal(detector.predict(NEW.X), fresh.predict(detector.decision_function(NEW.X)))
    assert detector.threshold_ == detector.decision_scores_[fresh.labels_ == 0].max()
    assert detector.predict_confidence(NEW.X).shape == (300,)
    assert thresholder.labels_ is None
    assert isinstance(clone(detector).contamination, type(thresholder))


def test_it_is_a_base_detector_to_pyods_ensembles():
    detector = PyODDetector(epochs=3, contamination=0.1, random_state=0)
    bagging = FeatureBagging(clone(detector), n_estimators=2, random_state=0).fit(TRAIN.X)
    assert bagging.labels_.sum() == 30
    assert bagging.decision_function(NEW.X).shape == (300,)
    selective = LSCP([clone(detector), IForest(random_state=0)], n_bins=2, random_state=0).fit(TRAIN.X)
    assert selective.decision_function(NEW.X).shape == (300,)


def test_its_scores_are_evaluated_and_standardised_by_pyod(detector, capsys):
    scores = detector.decision_function(NEW.X)
    evaluate_print("imbsam", NEW.truth, scores)
    assert f"imbsam ROC:{roc_auc_score(NEW.truth, scores):.4f}".rstrip("0") in capsys.readouterr().out
    train, new = standardizer(detector.decision_scores_[:, None], scores[:, None])
    np.testing.assert_allclose(train.std(), 1)
    np.testing.assert_array_equal(rankdata(new[:, 0]), rankdata(scores))


def test_its_scores_are_combined_with_those_of_other_detectors(detector):
    others = [PyODDetector(name, steps=80, random_state=0).fit(TRAIN.X, TRAIN.known) for name in ("bce", "devnet")]
    fitted = [detector, *others, IForest(random_state=0).fit(TRAIN.X)]
    train, new = (np.stack([scores(each) for each in fitted], axis=1)
                  for scores in (lambda d: d.decision_scores_, lambda d: d.decision_function(NEW.X)))  # fmt: skip
    _, new = standardizer(train, new)
    combined = [each(new) for each in (combination.average, combination.maximization, combination.median)]
    combined += [each(new, n_buckets=2, random_state=0) for each in (combination.aom, combination.moa)]
    assert all(roc_auc_score(NEW.truth, scores) > 0.9 for scores in combined)


def test_a_dumped_detector_predicts_the_same(detector, tmp_path):
    joblib.dump(detector, tmp_path / "detector.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "detector.joblib").predict(NEW.X), detector.predict(NEW.X))


def test_it_takes_images():
    pictures = digits()
    detector = PyODDetector(image_shape=(1, 8, 8), epochs=5, random_state=0).fit(pictures.X, pictures.known)
    assert roc_auc_score(pictures.truth, detector.decision_scores_) > 0.9


@pytest.mark.parametrize(
    "call", ["predict", "predict_proba", "decision_function", "predict_confidence", "predict_with_rejection"]
)
def test_it_must_be_fitted_first(call):
    with pytest.raises(NotFittedError):
        getattr(PyODDetector(), call)(NEW.X)
    with pytest.raises(NotFittedError):
        PyODDetector().compute_rejection_stats()
