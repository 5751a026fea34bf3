import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from imbsam import ClassPriors, losses
from imbsam.decisions import UNCALIBRATED, Calibration, posterior_under

PRIORS = ClassPriors.from_counts([80, 15, 5])
CLASSES = ["a", "b", "c"]


@pytest.fixture
def outputs():
    return torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 1.0), (0.5, 0.7)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_it_is_bayes_rule_on_calibrated_evidence(outputs, a, b, scale):
    shares = np.array([0.8, 0.15, 0.05])
    shift = np.array([0.3, -0.2, 1.0])
    asked = [1, 2, 7]
    found = posterior_under(
        asked,
        PRIORS,
        CLASSES,
        scale=scale,
        training_shift=torch.from_numpy(shift),
        calibration=Calibration(a, b),
    )
    evidence = a * (scale * outputs.numpy() + shift - np.log(shares)) + (b - 1) * np.log(shares)
    told = np.log(np.array(asked) / 10)
    np.testing.assert_allclose(found.log_probabilities(outputs), log_softmax(evidence + told, axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.log_training(outputs), log_softmax(evidence + np.log(shares), axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.scores(outputs), evidence + told, rtol=1e-10)


def test_by_default_probabilities_are_of_training_and_decisions_balanced(outputs):
    found = posterior_under(None, PRIORS, CLASSES)
    torch.testing.assert_close(found.log_probabilities(outputs), outputs.log_softmax(dim=1))
    decided = (outputs - PRIORS.log_priors).argmax(dim=1)
    assert torch.equal(found.scores(outputs).argmax(dim=1), decided)
    assert not torch.equal(decided, outputs.argmax(dim=1))


def test_costs_decide_by_expected_cost(outputs):
    costs = torch.tensor([1.0, 1.0, 20.0])
    found = posterior_under(None, PRIORS, CLASSES, costs=costs)
    assert torch.equal(found.scores(outputs).argmax(1), (outputs.softmax(1) * costs).argmax(1))


def drawn(rows, sharpness):
    """Rows whose true posterior is known, and outputs that are ``sharpness`` times too sure of it."""
    draw = np.random.default_rng(1)
    y = draw.choice(3, size=rows, p=PRIORS.priors.numpy())
    x = draw.normal(size=(rows, 3)) + 1.5 * np.eye(3)[y]
    evidence = 1.5 * x
    outputs = sharpness * evidence + PRIORS.log_priors.numpy()
    return torch.from_numpy(outputs), torch.from_numpy(y), torch.from_numpy(evidence)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_calibration_finds_how_much_too_sure_the_evidence_is(sharpness):
    outputs, targets, evidence = drawn(20000, sharpness)
    found = posterior_under("training", PRIORS, CLASSES).calibrated(outputs, targets)
    assert found.calibration.evidence == pytest.approx(1 / sharpness, rel=0.05)
    assert found.calibration.priors == pytest.approx(1, rel=0.05)
    truth = (evidence + PRIORS.log_priors).log_softmax(dim=1)
    torch.testing.assert_close(found.log_probabilities(outputs), truth, atol=0.3, rtol=0.06)


def test_calibrating_twice_is_calibrating_once_and_a_few_rows_move_little():
    outputs, targets, _ = drawn(20000, 4.0)
    once = posterior_under(None, PRIORS, CLASSES).calibrated(outputs, targets)
    assert once.calibrated(outputs, targets).calibration == once.calibration
    few = posterior_under(None, PRIORS, CLASSES).calibrated(outputs[:2], targets[:2])
    assert 0.5 < few.calibration.evidence < 2
    assert posterior_under(None, PRIORS, CLASSES).calibrated(outputs[:0], targets[:0]).calibration == UNCALIBRATED


@pytest.mark.parametrize("name", [name for name in losses.LOSSES if name not in ("focal", "ldam", "class-balanced")])
def test_the_shift_of_a_loss_makes_its_outputs_the_training_posterior(name, outputs):
    """The loss of a row is minus the logarithm of that posterior, where the loss is a proper one."""
    options = {"gamma": 0.0} if name == "vs" else {}
    criterion = losses.build(name, PRIORS, options=options)
    found = posterior_under("training", PRIORS, CLASSES, training_shift=losses.training_shift(criterion))
    for target in range(3):
        targets = torch.full((50,), target)
        expected = -criterion(outputs, targets)
        torch.testing.assert_close(found.log_probabilities(outputs)[:, target], expected, atol=1e-6, rtol=1e-6)


def test_weighted_losses_aim_at_weighted_priors(outputs):
    """Of weights w the outputs that minimise the expected loss are log (w p): the shift takes log w off."""
    criterion = losses.ClassBalanced(PRIORS, beta=0.99)
    weights = criterion.weights.double()
    posterior = torch.tensor([0.7, 0.2, 0.1]).double()
    best = (weights * posterior).log().expand(1, 3)
    found = posterior_under("training", PRIORS, CLASSES, training_shift=losses.training_shift(criterion))
    torch.testing.assert_close(found.log_probabilities(best).exp()[0], posterior, atol=1e-7, rtol=1e-6)
    deferred = losses.Deferred(losses.LogitAdjustment(PRIORS), PRIORS, start=2, beta=0.99)
    assert torch.equal(losses.training_shift(deferred), PRIORS.log_priors.float())
    deferred.set_epoch(2)
    torch.testing.assert_close(losses.training_shift(deferred), PRIORS.log_priors.float() - criterion.weights.log())
    assert losses.training_shift(losses.CrossEntropy()) is None
