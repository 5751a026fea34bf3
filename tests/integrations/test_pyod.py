import sys

import joblib
import numpy as np
import pytest
from pyod.models import combination, thresholds
from pyod.models.base import BaseDetector
from pyod.models.feature_bagging import FeatureBagging
from pyod.models.iforest import IForest
from pyod.models.lscp import LSCP
from pyod.utils.data import evaluate_print, generate_data
from pyod.utils.utility import standardizer
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import imbsam.anomaly
from anomaly.rows import blob_and_ring, digits
from imbsam.anomaly import AnomalyDetector, PyODDetector
from imbsam.errors import OptionError
from imbsam.integrations import pyod

TRAIN, NEW = blob_and_ring(), blob_and_ring(seed=1)


def detector_of(contamination):
    return PyODDetector(epochs=20, lr=5e-3, contamination=contamination, random_state=0)


@pytest.fixture(scope="module", params=[0.1, 0.25, "auto"])
def detector(request):
    return detector_of(request.param).fit(TRAIN.X, TRAIN.known)


@pytest.fixture(scope="module")
def calibrated():
    return detector_of("auto").fit(TRAIN.X, TRAIN.known)


def test_it_is_a_detector_of_pyod_and_a_public_name():
    assert issubclass(PyODDetector, BaseDetector)
    assert PyODDetector is pyod.PyODDetector


def test_without_pyod_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyod"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyod", None)
    monkeypatch.delitem(sys.modules, "imbsam.integrations.pyod")
    monkeypatch.delattr(imbsam.anomaly, "PyODDetector")
    exec("from imbsam.anomaly import *", {})
    with pytest.raises(ImportError, match=r"PyODDetector needs the package pyod: pip install 'imbsam\[pyod\]'"):
        _ = imbsam.anomaly.PyODDetector


@pytest.mark.parametrize(("share", "called"), [(0.1, 30), (0.25, 75)])
def test_a_share_is_turned_into_a_threshold_as_pyod_does(share, called):
    detector = detector_of(share).fit(TRAIN.X, TRAIN.known)
    assert detector.threshold_ == pytest.approx(np.percentile(detector.decision_scores_, 100 * (1 - share)))
    assert detector.labels_.sum() == called


def test_anomalies_are_one_and_score_higher(detector):
    labels, scores = detector.predict(NEW.X), detector.decision_function(NEW.X)
    assert set(labels.tolist()) == {0, 1}
    assert ((scores > detector.threshold_) == (labels == 1)).all()
    assert roc_auc_score(NEW.truth, scores) > 0.9


def test_both_faces_are_one_detector(detector):
    other = AnomalyDetector(**detector.get_params()).fit(TRAIN.X, TRAIN.known)
    np.testing.assert_array_equal(other.score_samples(NEW.X), -detector.decision_function(NEW.X))
    honest = other.detector_.training_scores.numpy()
    np.testing.assert_array_equal(honest, detector.decision_scores_)
    np.testing.assert_array_equal(honest > -other.offset_, detector.labels_ == 1)
    np.testing.assert_array_equal(other.predict(NEW.X) == -1, detector.predict(NEW.X) == 1)
    assert other.offset_ == -detector.threshold_


def test_under_a_calibrated_threshold_pyod_goes_by_the_share_of_training_rows_above_it(calibrated):
    """Its confidence, and what it makes of it, is that of a detector that is given this share and this threshold."""
    called = int(calibrated.labels_.sum())
    assert called == (calibrated.decision_scores_ > calibrated.threshold_).sum()
    of_pyod = SameScores(calibrated, contamination=called / 300 + 1e-9).fit(TRAIN.X)
    np.testing.assert_array_equal(of_pyod.labels_, calibrated.labels_)
    of_pyod.threshold_ = calibrated.threshold_
    np.testing.assert_array_equal(of_pyod.predict(NEW.X), calibrated.predict(NEW.X))
    np.testing.assert_allclose(of_pyod.predict_confidence(NEW.X), calibrated.predict_confidence(NEW.X))
    np.testing.assert_allclose(of_pyod.predict_proba(NEW.X, "unify"), calibrated.predict_proba(NEW.X, "unify"))
    costs = {"T": 5, "c_r": 0.1, "return_stats": True}
    (ours, stats), (theirs, expected) = (d.predict_with_rejection(NEW.X, **costs) for d in (calibrated, of_pyod))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(stats, expected, rtol=1e-4)


class SameScores(BaseDetector):
    """A detector of PyOD's own that has another one's scores."""

    def __init__(self, scorer, contamination):
        super().__init__(contamination)
        self.scorer = scorer

    def fit(self, X, y=None):  # noqa: N803
        self.decision_scores_ = self.scorer.decision_scores_
        self._set_n_classes(y)
        return self._process_decision_scores()

    def decision_function(self, X):  # noqa: N803
        return self.scorer.decision_function(X)


def test_pyod_counts_as_many_anomalies_as_there_are_whatever_their_share():
    for rows in (2, 49, 300):
        shares = [pyod._share(np.arange(rows) < called) for called in range(1, rows)]
        assert [int(rows * share) for share in shares] == list(range(1, rows))


def test_where_no_row_is_above_the_threshold_pyod_is_told_of_one():
    assert int(40 * pyod._share(np.zeros(40, dtype=bool))) == 1


def test_parameters_are_those_that_were_given_after_a_fit_too(calibrated):
    assert calibrated.get_params()["contamination"] == "auto"
    assert clone(calibrated).get_params() == calibrated.get_params()


def test_another_fit_goes_by_the_parameters_it_finds():
    detector = PyODDetector(epochs=2, contamination=0.1, random_state=0).fit(TRAIN.X, TRAIN.known)
    assert detector.set_params(contamination=0.25).fit(TRAIN.X, TRAIN.known).labels_.sum() == 75


def test_a_contamination_that_is_neither_a_share_nor_a_thresholder_is_refused():
    with pytest.raises(OptionError, match=r"contamination must be 'auto' or a share in \(0, 0\.5\]; got 'high'"):
        PyODDetector(contamination="high").fit(TRAIN.X, TRAIN.known)


@pytest.mark.parametrize("objective", ["hsc", "deep-sad", "devnet"])
def test_it_finds_the_outliers_of_pyods_generator(objective):
    rows, new, truth, new_truth = generate_data(n_train=200, n_test=100, contamination=0.1, random_state=42)
    detector = PyODDetector(objective, epochs=20, contamination=0.1, random_state=0).fit(rows, truth)
    assert roc_auc_score(new_truth, detector.decision_function(new)) >= 0.8


def test_it_finds_the_outliers_of_pyods_generator_without_labels():
    rows, new, _, new_truth = generate_data(n_train=200, n_test=100, contamination=0.1, random_state=42)
    detector = PyODDetector(epochs=20, contamination=0.1, random_state=0).fit(rows)
    assert detector.objective_ == "deep-svdd"
    assert roc_auc_score(new_truth, detector.decision_function(new)) >= 0.8


@pytest.mark.parametrize("name", ["IQR", "KARCH", "FILTER"])
def test_a_thresholder_of_pythresh_tells_anomalies_by_the_scores(name):
    thresholder = getattr(thresholds, name)()
    detector = detector_of(thresholder).fit(TRAIN.X, TRAIN.known)
    fresh = getattr(thresholds, name)().fit(detector.decision_scores_)
    np.testing.assert_array_equal(detector.labels_, fresh.labels_)
    np.testing.assert_array_equal(detector.predict(NEW.X), fresh.predict(detector.decision_function(NEW.X)))
    assert detector.predict_confidence(NEW.X).shape == (300,)


def test_a_thresholder_that_was_given_is_left_as_it_was():
    thresholder = thresholds.IQR()
    detector = PyODDetector(epochs=2, contamination=thresholder, random_state=0).fit(TRAIN.X, TRAIN.known)
    assert detector.get_params()["contamination"] is thresholder
    assert thresholder.labels_ is None


def test_it_is_bagged_by_pyod():
    detector = PyODDetector(epochs=3, contamination=0.1, random_state=0)
    bagging = FeatureBagging(detector, n_estimators=2, random_state=0).fit(TRAIN.X)
    assert bagging.labels_.sum() == 30
    assert bagging.decision_function(NEW.X).shape == (300,)


def test_it_is_selected_by_pyod_where_it_is_competent():
    detectors = [PyODDetector(epochs=3, contamination=0.1, random_state=0), IForest(random_state=0)]
    selective = LSCP(detectors, n_bins=2, random_state=0).fit(TRAIN.X)
    assert selective.decision_function(NEW.X).shape == (300,)


def test_its_scores_are_evaluated_by_pyod(calibrated, capsys):
    scores = calibrated.decision_function(NEW.X)
    evaluate_print("imbsam", NEW.truth, scores)
    assert f"imbsam ROC:{roc_auc_score(NEW.truth, scores):.4f}".rstrip("0") in capsys.readouterr().out


@pytest.fixture(scope="module")
def standardised(calibrated):
    """Scores of new rows by several detectors, one of them PyOD's own, brought to one scale by PyOD."""
    others = [PyODDetector(name, steps=80, random_state=0).fit(TRAIN.X, TRAIN.known) for name in ("bce", "devnet")]
    fitted = [calibrated, *others, IForest(random_state=0).fit(TRAIN.X)]
    of_training = np.stack([each.decision_scores_ for each in fitted], axis=1)
    of_new = np.stack([each.decision_function(NEW.X) for each in fitted], axis=1)
    train, new = standardizer(of_training, of_new)
    np.testing.assert_allclose(train.std(axis=0), 1)
    np.testing.assert_array_equal(rankdata(new[:, 0]), rankdata(of_new[:, 0]))
    return new


@pytest.mark.parametrize("combine", [combination.average, combination.maximization, combination.median])
def test_its_scores_are_combined_with_those_of_other_detectors(standardised, combine):
    assert roc_auc_score(NEW.truth, combine(standardised)) > 0.9


@pytest.mark.parametrize("combine", [combination.aom, combination.moa])
def test_its_scores_are_combined_in_buckets_of_detectors(standardised, combine):
    assert roc_auc_score(NEW.truth, combine(standardised, n_buckets=2, random_state=0)) > 0.9


def test_a_dumped_detector_predicts_the_same(calibrated, tmp_path):
    joblib.dump(calibrated, tmp_path / "detector.joblib")
    again = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_array_equal(again.predict_confidence(NEW.X), calibrated.predict_confidence(NEW.X))
    assert again.get_params() == calibrated.get_params()


def test_it_takes_images():
    pictures = digits()
    detector = PyODDetector(image_shape=(1, 8, 8), epochs=5, random_state=0).fit(pictures.X, pictures.known)
    assert roc_auc_score(pictures.truth, detector.decision_scores_) > 0.9


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        PyODDetector().decision_function(NEW.X)
    with pytest.raises(NotFittedError):
        PyODDetector().predict(NEW.X)
