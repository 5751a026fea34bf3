"""Two numbers that make a classifier as sure as it is right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from imbsam.decisions import Calibration, fitted_calibration

PRIORS = np.array([0.8, 0.15, 0.05])


def drawn(seed, *shape):
    """Logarithms of posteriors, shape ``shape``."""
    return log_softmax(np.random.default_rng(seed).normal(size=shape) * 3, axis=-1)


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5), st.floats(0.2, 5))
def test_the_calibrated_posterior_is_that_of_trusted_evidence_and_priors(seed, a, b):
    evidence = drawn(seed, 20, 3)
    training = np.exp(a * evidence) * PRIORS**b
    ratio = training / PRIORS
    found = np.exp(log_softmax(Calibration(a, b).balanced(evidence, np.log(PRIORS)), axis=1))
    np.testing.assert_allclose(found, ratio / ratio.sum(axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (0.4, 0.4), (0.5, 1.5)])
def test_the_calibration_undoes_what_makes_a_classifier_too_sure(factors):
    a, b = factors
    draw = np.random.default_rng(0)
    targets = draw.choice(3, 20000, p=PRIORS)
    evidence = 1.5 * (draw.normal(size=(20000, 3)) + 1.5 * np.eye(3)[targets])
    said = (evidence - (b - 1) * np.log(PRIORS)) / a
    found = fitted_calibration(said, targets, np.log(PRIORS))
    assert (found.evidence, found.priors) == pytest.approx(factors, rel=0.1)


def test_who_knows_nothing_says_nothing():
    draw = np.random.default_rng(0)
    targets = draw.choice(3, 2000, p=PRIORS)
    found = fitted_calibration(9 * draw.normal(size=(2000, 3)), targets, np.log(PRIORS))
    assert found.evidence < 0.06
    assert found.priors == pytest.approx(1, abs=0.2)


def test_few_rows_leave_the_calibration_near_bayes_rule_and_none_at_it():
    evidence = 5 * drawn(0, 3, 3)
    wrong = fitted_calibration(evidence, evidence.argmin(axis=1), np.log(PRIORS))
    assert 0.1 < wrong.evidence < 1
    assert fitted_calibration(evidence[:0], np.empty(0, np.int64), np.log(PRIORS)) == Calibration(1.0, 1.0)


@pytest.mark.parametrize("frequencies", [(1 / 3, 1 / 3, 1 / 3), (0.1, 0.1, 0.8)])
def test_rows_of_other_class_frequencies_give_the_same_calibration(frequencies):
    """Of one who is twice too sure, and right about the priors, whoever the rows are that tell it."""
    draw = np.random.default_rng(0)
    targets = draw.choice(3, 20000, p=frequencies)
    evidence = 1.5 * (draw.normal(size=(20000, 3)) + 1.5 * np.eye(3)[targets])
    found = fitted_calibration(2 * evidence, targets, np.log(PRIORS))
    assert (found.evidence, found.priors) == pytest.approx((0.5, 1.0), rel=0.08)
