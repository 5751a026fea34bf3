"""Estimators and detectors that compute on a device of their own say what they say on the CPU."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from anomaly.rows import blob_and_ring, digits
from imbsam import BlendClassifier, SharpClassifier
from imbsam.anomaly import OBJECTIVES, AnomalyDetector

X, Y = load_digits(return_X_y=True)
X, Y = X[:600], Y[:600]
X, Y = X[(Y != 9) | (np.arange(600) < 120)], Y[(Y != 9) | (np.arange(600) < 120)]
TABLE, PICTURES = blob_and_ring(), digits()


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_classifier_is_that_of_the_cpu(simulated, base, early_stopping):
    def fitted(device):
        options = {"hidden": (16,), "max_iter": 4, "base": base, "early_stopping": early_stopping}
        return SharpClassifier("imbsam", device=str(device), random_state=0, **options).fit(X, Y)

    there, here = fitted(simulated), fitted("cpu")
    np.testing.assert_allclose(there.predict_proba(X), here.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(there)).predict(X), there.predict(X))


def test_a_blend_is_that_of_the_cpu(simulated):
    def fitted(device):
        network = SharpClassifier(hidden=(8,), max_iter=3)
        members = [("network", network), ("logistic", LogisticRegression(max_iter=30, tol=1.0))]
        return BlendClassifier(members, folds=3, random_state=0, device=str(device)).fit(X, Y)

    np.testing.assert_allclose(fitted(simulated).predict_proba(X), fitted("cpu").predict_proba(X), atol=1e-5)


def scores(detector, table):
    return detector.fit(table.X, table.known).score_samples(table.X)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_detector_of_rows_is_that_of_the_cpu(simulated, objective):
    def made(device):
        known = {"objective": objective, "epochs": 2, "contamination": 0.1, "random_state": 0}
        return AnomalyDetector(device=str(device), **known)

    there, here = made(simulated), made("cpu")
    np.testing.assert_allclose(scores(there, TABLE), scores(here, TABLE), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(there.predict(TABLE.X), here.predict(TABLE.X))


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"blend"}))
def test_a_detector_of_images_is_that_of_the_cpu(simulated, objective):
    def made(device):
        known = {"objective": objective, "epochs": 1, "contamination": 0.1, "random_state": 0}
        return AnomalyDetector(device=str(device), image_shape=(1, 8, 8), members=2, **known)

    np.testing.assert_allclose(scores(made(simulated), PICTURES), scores(made("cpu"), PICTURES), rtol=1e-3, atol=1e-5)
