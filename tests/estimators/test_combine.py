"""The mixture against plain numpy, and weights that go to whoever is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from imbsam.estimators.combine import (
    PSEUDO_ROWS,
    averaged,
    balanced_accuracy,
    fitted_weights,
)

PRIORS = np.array([0.8, 0.15, 0.05])


def drawn(seed, *shape):
    """Logarithms of posteriors, shape ``shape``."""
    return log_softmax(np.random.default_rng(seed).normal(size=shape) * 3, axis=-1)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_average_is_the_weighted_mean_of_posteriors(seed, members):
    logs, weights = drawn(seed, members, 20, 3), np.random.default_rng(seed).dirichlet(np.ones(members))
    np.testing.assert_allclose(np.exp(averaged(logs, weights)), np.tensordot(weights, np.exp(logs), axes=1), rtol=1e-10)


def test_a_member_of_weight_nothing_says_nothing():
    logs = drawn(0, 2, 20, 3)
    np.testing.assert_allclose(averaged(logs, np.array([1.0, 0.0])), logs[0])


def balanced_loss(weights, evidence, targets):
    mixed = np.tensordot(weights, np.exp(evidence), axes=1)[np.arange(len(targets)), targets]
    return np.mean([-np.log(mixed[targets == c]).mean() for c in np.unique(targets)])


def test_the_weights_minimise_the_class_balanced_log_loss_with_pseudo_rows():
    draw = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [2000, 400, 60])
    evidence = draw.normal(size=(2, len(targets), 3))
    evidence[0, np.arange(len(targets)), targets] += 1.5
    evidence[1, np.arange(len(targets)), targets] += 1.0
    evidence = log_softmax(evidence, axis=2)
    rows = 9 / (1 / np.array([2000, 400, 60])).sum()

    def objective(w):
        weights = np.array([w, 1 - w])
        return rows * balanced_loss(weights, evidence, targets) - PSEUDO_ROWS * np.log(weights).sum()

    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmin([objective(w) for w in grid])]
    found = fitted_weights(evidence, targets)
    assert found[0] == pytest.approx(best, abs=2e-3)
    assert found.sum() == pytest.approx(1)
    assert found[0] > 0.6


@pytest.mark.parametrize(("rarest", "at_most"), [(1, 0.65), (10, 0.9), (1000, 0.999)])
def test_the_rows_of_the_rarest_class_say_how_far_the_weights_may_go(rarest, at_most):
    targets = np.repeat([0, 1, 2], [1000, 1000, rarest])
    logits = np.random.default_rng(0).normal(size=(2, len(targets), 3))
    logits[0, np.arange(len(targets)), targets] += 3
    assert 0.5 < fitted_weights(log_softmax(logits, axis=2), targets)[0] < at_most


def test_without_rows_the_weights_are_equal():
    assert fitted_weights(np.empty((2, 0, 3)), np.empty(0, np.int64)).tolist() == [0.5, 0.5]


def test_balanced_accuracy_is_the_mean_of_the_recalls_of_classes_that_are_there():
    evidence = np.eye(4)[[0, 0, 1, 2, 0]]
    assert balanced_accuracy(evidence, np.array([0, 0, 1, 1, 1])) == pytest.approx((1 + 1 / 3) / 2)
