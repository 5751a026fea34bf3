"""The pool against plain numpy, and weights that go to whoever is right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from imbsam.estimators.combine import FLOOR, Pool, balanced_accuracy, fitted_pool, voices

PRIORS = np.array([0.8, 0.15, 0.05])
LOG_PRIORS = np.log(PRIORS)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape) * 3


def told(weights, priors, members):
    """Probabilities under the training priors, a row and a class at a time."""
    found = np.zeros(members.shape[1:])
    for row in range(members.shape[1]):
        for c in range(3):
            found[row, c] = PRIORS[c] ** priors
            for weight, member in zip(weights, members[:, row], strict=True):
                times = 3 * np.exp(member[c]) / np.exp(member).sum()
                found[row, c] *= (times + FLOOR) ** weight
    return found / found.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 2))
def test_the_pool_is_a_product_of_powers(seed, number, priors):
    members, weights = drawn(seed, number, 10, 3), np.random.default_rng(seed).random(number)
    joint = np.exp(Pool(weights, priors).evidence(members, LOG_PRIORS)) * PRIORS
    np.testing.assert_allclose(joint / joint.sum(axis=1, keepdims=True), told(weights, priors, members), rtol=1e-8)


def test_a_member_that_is_sure_beyond_reason_rules_nothing_out():
    said = voices(np.array([[0.0, 500.0, -500.0]]))
    assert said.min() == pytest.approx(np.log(FLOOR))
    assert said.max() == pytest.approx(np.log(3 + FLOOR))


def samples(seed, rows=4000):
    """Classes, and evidence of one who knows them a little, one who is four times too sure, and one who guesses."""
    draw = np.random.default_rng(seed)
    targets = draw.choice(3, rows, p=PRIORS)
    shift = 1.5 * np.eye(3)[targets]
    first, second = (1.5 * (draw.normal(size=(rows, 3)) + shift) for _ in range(2))
    return np.stack([first, 4 * second, 3 * draw.normal(size=(rows, 3))]), targets


def test_the_weights_minimise_the_loss_with_its_pull_to_equal_ones():
    members, targets = samples(0, 200)

    def loss(weights):
        probabilities = told(weights[:-1], weights[-1], members)[np.arange(200), targets]
        pull = ((weights[:-1] - 1 / 3) ** 2).sum() + (weights[-1] - 1) ** 2
        return -np.log(probabilities).mean() + pull / 200

    best = minimize(loss, [1 / 3, 1 / 3, 1 / 3, 1.0], bounds=[(0, None)] * 4)
    found = fitted_pool(members, targets, LOG_PRIORS)
    assert loss(np.append(found.weights, found.priors)) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(np.append(found.weights, found.priors), best.x, atol=5e-3)


def test_who_guesses_has_no_say_and_who_is_too_sure_less():
    found = fitted_pool(*samples(1), LOG_PRIORS)
    first, too_sure, guesses = found.shares
    assert first > too_sure > guesses
    assert guesses < 0.1
    assert found.shares.sum() == pytest.approx(1)


def test_few_rows_leave_the_weights_near_equal_and_none_at_it():
    members, targets = samples(0, 3)
    few = fitted_pool(members, targets, LOG_PRIORS)
    np.testing.assert_allclose(few.weights, 1 / 3, atol=0.5)
    none = fitted_pool(members[:, :0], targets[:0], LOG_PRIORS)
    assert none.weights.tolist() == [1 / 3] * 3
    assert none.priors == 1


def test_together_they_know_more_than_each():
    members, targets = samples(2)
    pool = fitted_pool(members[:, :2000], targets[:2000], LOG_PRIORS)
    later = [*members[:, 2000:], pool.evidence(members[:, 2000:], LOG_PRIORS)]
    each = [balanced_accuracy(evidence, targets[2000:]) for evidence in later]
    assert each[-1] > max(each[:-1]) + 0.02


def test_balanced_accuracy_counts_classes_alike():
    evidence = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    assert balanced_accuracy(evidence, np.array([0, 0, 0, 1])) == 0.5
