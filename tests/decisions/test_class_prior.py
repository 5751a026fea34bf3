import math

import pytest
import torch

from imbsam import ClassPriors
from imbsam.decisions import log_class_prior, parsed_class_prior
from imbsam.decisions.class_prior import FLOOR
from imbsam.errors import OptionError

PRIORS = ClassPriors.from_counts([60, 30, 10])
CLASSES = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("asked", "frequencies"),
    [
        ("training", [0.6, 0.3, 0.1]),
        ("balanced", [1 / 3] * 3),
        ([2, 1, 1], [0.5, 0.25, 0.25]),
        (torch.tensor([2, 1, 1]), [0.5, 0.25, 0.25]),
        ({"c": 3.0, "a": 1.0, "b": 0.0001}, [1 / 4.0001, 0.0001 / 4.0001, 3 / 4.0001]),
    ],
)
def test_the_frequencies_are_those_asked_for(asked, frequencies):
    torch.testing.assert_close(log_class_prior(asked, PRIORS, CLASSES).exp(), torch.tensor(frequencies).double())


def test_the_prior_of_a_loss_is_that_at_which_its_outputs_are_the_posterior():
    shift = 0.5 * PRIORS.log_priors
    found = log_class_prior("loss", PRIORS, CLASSES, shift)
    torch.testing.assert_close(found, PRIORS.log_priors - shift)
    assert torch.equal(log_class_prior("loss", PRIORS, CLASSES), log_class_prior("training", PRIORS, CLASSES))


@pytest.mark.parametrize("asked", ["training", "balanced"])
def test_a_class_without_a_training_sample_is_next_to_impossible(asked):
    found = log_class_prior(asked, ClassPriors.from_counts([5, 0, 15]), CLASSES)
    assert float(found[1]) == pytest.approx(math.log(FLOOR))
    assert float(found[[0, 2]].exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("words", [["training"], ["balanced"], ["loss"]])
def test_names_are_read(words):
    assert parsed_class_prior(words) == words[0]


def test_words_are_read():
    assert parsed_class_prior(["auto"]) is None
    assert parsed_class_prior(["a=0.9", "x=y=0.1"]) == {"a": 0.9, "x=y": 0.1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["uniform"], "give auto, training, balanced, loss, or CLASS=FREQUENCY"),
        (["a=many"], "--class-prior a=many: give CLASS=FREQUENCY"),
        (["=1", "a=1"], "--class-prior =1: give CLASS=FREQUENCY"),
        (["a=1", "a=2"], "a is given twice"),
        (["training", "balanced"], "--class-prior training: give CLASS=FREQUENCY"),
        ([], "no class prior"),
    ],
)
def test_words_that_cannot_be_are_refused(words, message):
    with pytest.raises(OptionError, match=message):
        log_class_prior(parsed_class_prior(words), PRIORS, CLASSES)
