import pytest
import torch

from imbsam import ClassPriors
from imbsam.config import Options
from imbsam.training.evaluation import posterior_of

PRIORS = ClassPriors.from_counts([80, 15, 5])
LOG_PRIORS = (torch.tensor([80.0, 15.0, 5.0], dtype=torch.float64) / 100).log()


def posterior(sampler: str, loss: str):
    return posterior_of(Options().updated({"sampler": sampler, "loss": loss}), PRIORS, ("a", "b", "c"), epoch=1)


@pytest.mark.parametrize(
    ("sampler", "loss", "times"),
    [
        ("shuffle", "cross-entropy", 0),
        ("shuffle", "logit-adjustment", 1),
        ("gathered", "cross-entropy", 0),
        ("balanced", "cross-entropy", 1),
        ("balanced", "logit-adjustment", 2),
        ("square-root", "cross-entropy", 0.5),
        ("square-root", "logit-adjustment", 1.5),
    ],
)
def test_outputs_are_told_under_the_training_priors_whatever_the_loss_and_the_sampler_aimed_at(sampler, loss, times):
    """The posterior under the training priors is the softmax of the outputs and so many times log pi."""
    logits = torch.randn(6, 3, dtype=torch.float64)
    expected = (logits + times * LOG_PRIORS).log_softmax(dim=1)
    torch.testing.assert_close(
        posterior(sampler, loss).log_probabilities(logits).double(), expected, rtol=1e-6, atol=1e-6
    )


def test_classes_that_were_repeated_are_told_under_the_training_priors():
    logits, shares = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64)
    repeats = (0.4 / shares).sqrt().clamp(min=1)
    chosen = Options().updated({"sampler": "repeated", "repeat_threshold": 0.4, "loss": "cross-entropy"})
    found = posterior_of(chosen, PRIORS, ("a", "b", "c"), epoch=1).log_probabilities(logits)
    torch.testing.assert_close(found.double(), (logits - repeats.log()).log_softmax(dim=1), rtol=1e-6, atol=1e-6)


def test_classes_that_were_drawn_equally_often_are_decided_between_by_the_outputs():
    logits = torch.randn(50, 3)
    assert torch.equal(posterior("balanced", "cross-entropy").scores(logits).argmax(dim=1), logits.argmax(dim=1))
