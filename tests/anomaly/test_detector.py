import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from torch import nn

from anomaly.rows import blob_and_ring, digits
from imbsam.anomaly import OBJECTIVES, AnomalyDetector
from imbsam.errors import DataError, DataWarning, OptionError

TABLE, PICTURES = blob_and_ring(), digits()
X, Y = TABLE.X, TABLE.known


def quick(**options):
    return AnomalyDetector(**{"epochs": 3, "random_state": 0, **options})


# The checks label rows 1 and 2, and hand in constant columns.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imbsam.errors.DataWarning")
@pytest.mark.usefixtures("array_checks")
@parametrize_with_checks(
    [
        AnomalyDetector(epochs=2, other_labels="unlabelled"),
        AnomalyDetector("deep-sad", epochs=2, other_labels="unlabelled", members=2, contamination=0.1),
    ]
)
def test_it_passes_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imbsam.errors.DataWarning")
def test_by_default_it_fails_those_three_checks_that_label_rows_two():
    results = check_estimator(AnomalyDetector(epochs=2), on_fail=None, on_skip=None)
    failed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"}
    assert set(failed) == {"check_estimators_dtypes", "check_classifier_data_not_an_array", "check_fit2d_1feature"}
    assert all("y holds 2" in message for message in failed.values())


def test_anomalies_are_minus_one_and_score_lower():
    detector = quick(epochs=20).fit(X, Y)
    predicted, decision = detector.predict(X), detector.decision_function(X)
    assert set(predicted.tolist()) == {-1, 1}
    assert ((decision < 0) == (predicted == -1)).all()
    assert decision[TABLE.truth == 1].mean() < 0 < decision[TABLE.truth == 0].mean()
    np.testing.assert_allclose(decision, detector.score_samples(X) - detector.offset_)


def test_a_number_as_contamination_is_the_share_of_training_rows_called_anomalies():
    assert (quick(contamination=0.15).fit_predict(X, Y) == -1).sum() == 45


def test_a_calibrated_threshold_says_what_it_finds_and_what_it_costs():
    detector = quick(epochs=20).fit(X, Y)
    assert 0.5 < detector.recall_ <= 1
    assert 0 <= detector.false_alarm_rate_ < 0.3
    assert detector.detector_.threshold.anomalies == 10
    assert detector.offset_ == -detector.detector_.threshold.value


def test_the_same_seed_gives_the_same_bits_and_torchs_generator_is_left_alone():
    before = torch.get_rng_state()
    first = quick().fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert (quick().fit(X, Y).score_samples(X) == first.score_samples(X)).all()
    assert (first.fit(X, Y).score_samples(X) == quick().fit(X, Y).score_samples(X)).all()
    assert (quick(random_state=1).fit(X, Y).score_samples(X) != first.score_samples(X)).any()


def test_without_a_seed_numpys_global_one_counts():
    np.random.seed(3)
    first = quick(random_state=None).fit(X, Y).score_samples(X)
    second = quick(random_state=None).fit(X, Y).score_samples(X)
    np.random.seed(3)
    assert (quick(random_state=None).fit(X, Y).score_samples(X) == first).all()
    assert (first != second).any()


def test_a_pickled_detector_scores_the_same():
    detector = quick().fit(X, Y)
    assert (pickle.loads(pickle.dumps(detector)).score_samples(X) == detector.score_samples(X)).all()


def test_it_works_in_a_pipeline_and_a_search():
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    pipeline = make_pipeline(StandardScaler(), quick(contamination=0.1))
    grid = {"anomalydetector__objective": ["hsc", "bce"]}

    def score(found, rows, known):
        return float(-found.decision_function(rows)[known == 1].mean())

    search = GridSearchCV(pipeline, grid, scoring=score, cv=folds).fit(X, Y)
    assert search.predict(X).shape == (300,)
    assert clone(search.best_estimator_[-1]).get_params()["epochs"] == 3


def test_known_normal_rows_matter_to_deep_sad():
    known = Y.copy()
    known[TABLE.truth == 0] = -1
    half = quick(objective="deep-sad", objective_options={"eta": 5.0}, contamination=0.1)
    assert (half.fit(X, known).score_samples(X) != clone(half).fit(X, Y).score_samples(X)).any()


def test_labels_without_an_anomaly_fall_back_to_deep_svdd_with_a_warning():
    with pytest.warns(DataWarning, match=r"y has no labelled anomaly \(1\), so blend has nothing to learn from"):
        detector = quick().fit(X, np.zeros(300, dtype=int))
    assert detector.objective_ == "deep-svdd"
    assert (detector.score_samples(X) == quick().fit(X).score_samples(X)).all()


def test_no_labels_at_all_are_not_worth_a_warning():
    assert quick().fit(X).objective_ == "deep-svdd"
    assert quick(objective="deep-svdd").fit(X, np.zeros(300)).objective_ == "deep-svdd"


@pytest.mark.parametrize("y", [None, np.zeros(300), -np.ones(300)])
def test_strict_refuses_to_train_without_a_labelled_anomaly(y):
    with pytest.raises(DataError, match="strict=True asks for some"):
        quick(strict=True).fit(X, y)


def test_a_single_labelled_anomaly_is_enough():
    y = np.zeros(300, dtype=int)
    y[np.flatnonzero(Y)[0]] = 1
    detector = quick(contamination=0.1, epochs=20, lr=5e-3).fit(X, y)
    assert detector.objective_ == "blend"
    assert detector.score_samples(X)[y == 1][0] < np.quantile(detector.score_samples(X), 0.1)


def test_labels_of_an_outlier_detector_handed_in_as_known_ones_are_noticed():
    with pytest.warns(DataWarning, match="y labels 270 of 300 rows as anomalies"):
        quick().fit(X, np.where(TABLE.truth == 1, -1, 1))


def test_unknown_labels_are_refused_with_the_encoding():
    with pytest.raises(DataError, match=r"y holds 2, first in row 0\. Labels are 1 for a known anomaly, 0 for an unl"):
        quick().fit(X, np.where(Y == 1, 1, 2))


def test_unknown_labels_may_be_taken_for_unlabelled():
    named = quick(other_labels="unlabelled").fit(X, np.where(Y == 1, 1, np.nan))
    assert (named.score_samples(X) == quick().fit(X, Y).score_samples(X)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_and_infinite_values_are_refused(bad):
    rows = X.copy()
    rows[5, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick().fit(rows, Y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick().fit(X, Y).predict(rows)
    images = PICTURES.X.astype(np.float64)
    images[7, 0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick(image_shape=(1, 8, 8)).fit(images, PICTURES.known)


def test_other_columns_than_in_training_are_refused():
    detector = quick().fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but AnomalyDetector is expecting 4 features"):
        detector.predict(X[:, :3])


def test_other_column_names_than_in_training_are_refused():
    frame = pd.DataFrame(X, columns=list("abcd"))
    detector = quick().fit(frame, Y)
    assert detector.feature_names_in_.tolist() == list("abcd")
    assert (detector.predict(frame) == quick().fit(X, Y).predict(X)).all()
    with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
        detector.predict(frame[["b", "a", "c", "d"]])


def test_constant_columns_are_named_and_ignored_in_new_rows_too():
    frame = pd.DataFrame(X, columns=list("abcd")).assign(c=3.0)
    with pytest.warns(DataWarning, match="constant columns carry no information and are ignored, in new rows too: 'c'"):
        detector = quick().fit(frame, Y)
    assert (detector.score_samples(frame) == detector.score_samples(frame.assign(c=99.0))).all()
    with pytest.warns(DataWarning, match="in new rows too: 2"):
        quick().fit(frame.to_numpy(), Y)


def test_images_may_come_flattened_or_not():
    flat = PICTURES.X.reshape(270, 64)
    whole, rows = (quick(image_shape=(1, 8, 8)).fit(images, PICTURES.known) for images in (PICTURES.X, flat))
    assert whole.n_features_in_ == rows.n_features_in_ == 64
    assert (whole.score_samples(PICTURES.X) == rows.score_samples(flat)).all()
    assert (whole.score_samples(flat) == rows.score_samples(flat.astype(np.float64))).all()
    assert isinstance(whole.detector_.members[0].objective.network[0], nn.Conv2d)


def test_a_detector_of_images_works_in_a_search():
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(
        quick(image_shape=(1, 8, 8), contamination=0.1),
        {"objective": ["bce", "devnet"]},
        scoring=lambda found, images, known: float(-found.decision_function(images)[known == 1].mean()),
        cv=folds,
    ).fit(PICTURES.X, PICTURES.known)
    assert search.predict(PICTURES.X).shape == (270,)


def test_images_whose_shape_is_not_named_or_another_are_refused():
    with pytest.raises(DataError, match=r"X holds images of shape \(1, 8, 8\); image_shape is None\. Name the shape"):
        quick().fit(PICTURES.X, PICTURES.known)
    last = PICTURES.X.transpose(0, 2, 3, 1)
    with pytest.raises(DataError, match=r"shape \(8, 8, 1\); image_shape is \(1, 8, 8\)\. .* puts them there"):
        quick(image_shape=(1, 8, 8)).fit(last, PICTURES.known)
    with pytest.raises(DataError, match=r"rows of X hold 4 numbers, images of image_shape=\(1, 8, 8\) 64"):
        quick(image_shape=(1, 8, 8)).fit(X, Y)
    with pytest.raises(OptionError, match=r"image_shape must be \(channels, height, width\); got \(8, 8\)"):
        quick(image_shape=(8, 8)).fit(X, Y)
    with pytest.raises(ValueError, match="X has 16 features, but AnomalyDetector is expecting 64 features"):
        quick(image_shape=(1, 8, 8)).fit(PICTURES.X, PICTURES.known).predict(PICTURES.X[:, :, :4, :4].reshape(270, 16))


def test_a_constant_channel_is_named():
    two = np.concatenate([PICTURES.X, np.full_like(PICTURES.X, 3)], axis=1)
    with pytest.warns(DataWarning, match="constant channels carry no information and are ignored, in new rows too: 1"):
        quick(image_shape=(2, 8, 8)).fit(two, PICTURES.known)


def few(rows, labels):
    """Three labelled anomalies and nine other rows, and their labels."""
    return np.r_[rows[labels == 1][:3], rows[labels == 0][:9]], np.r_[np.ones(3), np.zeros(9)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fewer_rows_than_a_batch_are_fine(objective):
    rows, known = few(X, Y)
    detector = quick(objective=objective, contamination=0.2).fit(rows, known)
    assert np.isfinite(detector.score_samples(rows)).all()
    assert detector.score_samples(rows[:1]).shape == (1,)


@pytest.mark.parametrize("objective", ["deep-sad", "rosas"])
def test_fewer_images_than_a_batch_are_fine_with_and_without_batchnorm(objective):
    images, known = few(PICTURES.X, PICTURES.known)
    detector = quick(objective=objective, image_shape=(1, 8, 8), contamination=0.2).fit(images, known)
    assert np.isfinite(detector.score_samples(images)).all()
    assert detector.score_samples(images[:1]).shape == (1,)


def test_a_single_row_is_refused():
    with pytest.raises(ValueError, match="a minimum of 2 is required"):
        quick().fit(X[:1])


@pytest.mark.parametrize("call", ["predict", "decision_function", "score_samples"])
def test_it_must_be_fitted_first(call):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(quick(), call)(X)


def test_read_only_and_reversed_rows_are_fine():
    fixed = X[::-1]
    fixed.flags.writeable = False
    assert quick().fit(fixed, Y[::-1]).predict(fixed).shape == (300,)


def test_an_option_is_refused_at_fit_and_not_before():
    detector = quick(other_labels="drop")
    with pytest.raises(OptionError, match="other_labels must be 'error' or 'unlabelled'; got 'drop'"):
        detector.fit(X, Y)
    with pytest.raises(OptionError, match="contamination must be"):
        quick(contamination=0.7).fit(X, Y)
