"""The mixture against plain numpy, and weights that go to whoever is right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbsam.decisions import posterior_under
from imbsam.estimators.combine import (
    LEAST_ROWS,
    PSEUDO_ROWS,
    Mixture,
    balanced_accuracy,
    fitted_mixture,
    fitted_weights,
)
from imbsam.priors import ClassPriors


def posterior_of(targets, classes=3):
    priors = ClassPriors.from_targets(torch.from_numpy(targets), classes)
    return posterior_under(None, priors, list(range(classes)), training_shift=priors.log_priors)


def drawn(seed, members=3, rows=40, classes=3):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(members, rows, classes)) * 3, draw.integers(0, classes, rows)


def probabilities(evidence, temperature=1.0):
    powers = np.exp(evidence / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_mixture_is_the_weighted_mean_of_posteriors(seed, members):
    evidence, _ = drawn(seed, members)
    draw = np.random.default_rng(seed)
    temperatures, weights = draw.uniform(0.3, 3, members), draw.dirichlet(np.ones(members))
    mean = sum(w * probabilities(e, t) for w, e, t in zip(weights, evidence, temperatures, strict=True))
    np.testing.assert_allclose(np.exp(Mixture(temperatures, weights).evidence(evidence)), mean, rtol=1e-10)


def test_a_member_of_weight_nothing_says_nothing():
    evidence, _ = drawn(0, 2)
    mixture = Mixture(np.ones(2), np.array([1.0, 0.0]))
    np.testing.assert_allclose(np.exp(mixture.evidence(evidence)), probabilities(evidence[0]))


def balanced_loss(weights, evidence, targets):
    mixed = np.tensordot(weights, probabilities(evidence), axes=1)[np.arange(len(targets)), targets]
    return np.mean([-np.log(mixed[targets == c]).mean() for c in np.unique(targets)])


def test_the_weights_minimise_the_class_balanced_log_loss_with_pseudo_rows():
    draw = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [2000, 400, 60])
    evidence = draw.normal(size=(2, len(targets), 3))
    evidence[0, np.arange(len(targets)), targets] += 1.5
    evidence[1, np.arange(len(targets)), targets] += 1.0
    rows = 9 / (1 / np.array([2000, 400, 60])).sum()

    def objective(w):
        weights = np.array([w, 1 - w])
        return rows * balanced_loss(weights, evidence, targets) - PSEUDO_ROWS * np.log(weights).sum()

    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmin([objective(w) for w in grid])]
    found = fitted_weights(evidence, targets, np.ones(2))
    assert found[0] == pytest.approx(best, abs=2e-3)
    assert found.sum() == pytest.approx(1)
    assert found[0] > 0.6


def test_few_rows_leave_the_weights_near_equal():
    evidence, targets = drawn(0, 2, rows=6)
    evidence[0, np.arange(6), targets] += 9
    assert fitted_weights(evidence, targets, np.ones(2))[0] < 0.65


@pytest.mark.parametrize("rarest", [LEAST_ROWS - 1, LEAST_ROWS])
def test_weights_are_fitted_where_every_class_has_rows_enough(rarest):
    targets = np.repeat([0, 1, 2], [80, 40, rarest])
    evidence = np.random.default_rng(0).normal(size=(2, len(targets), 3))
    evidence[0, np.arange(len(targets)), targets] += 3
    found = fitted_mixture(evidence, targets, posterior_of(targets), None)
    assert (found.weights[0] == 0.5) == (rarest < LEAST_ROWS)


def test_weights_that_are_given_stay_and_overconfident_members_are_tempered():
    evidence, targets = drawn(1, 2, rows=600)
    evidence[0] /= 3
    evidence[0, np.arange(600), targets] += 1
    evidence[1] = 10 * evidence[0]
    found = fitted_mixture(evidence, targets, posterior_of(targets), np.array([0.3, 0.7]))
    assert found.weights.tolist() == [0.3, 0.7]
    assert found.temperatures[1] == pytest.approx(10 * found.temperatures[0], rel=0.05)


def test_without_rows_nothing_is_fitted():
    found = fitted_mixture(np.empty((2, 0, 3)), np.empty(0, np.int64), posterior_of(np.arange(3)), None)
    assert found.temperatures.tolist() == [1, 1]
    assert found.weights.tolist() == [0.5, 0.5]


def test_balanced_accuracy_is_the_mean_of_the_recalls_of_classes_that_are_there():
    evidence = np.eye(4)[[0, 0, 1, 2, 0]]
    assert balanced_accuracy(evidence, np.array([0, 0, 1, 1, 1])) == pytest.approx((1 + 1 / 3) / 2)
