"""Runs whose weights are perturbed once the tail is learned."""

import json

import pytest
import torch

from imbsam import data
from imbsam.data import evaluation_transform
from imbsam.errors import OptionError
from imbsam.optim import SharpnessAware
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training import setup
from runs.test_resume import assert_same_run, stopped_within_an_epoch, train_twice

EPOCHS, STEPS = 12, 5
"""Steps of an epoch of the digits with batches of 64."""
DIGITS = {"epochs": EPOCHS, "batch_size": 64, "rho": 0.2}


@pytest.fixture
def perturbed(monkeypatch):
    """Whether each step of the runs perturbed the weights."""
    found = []
    original = SharpnessAware.passes

    def passes(optimizer, *rest, **named):
        found.append(optimizer.is_sharp)
        return original(optimizer, *rest, **named)

    monkeypatch.setattr(SharpnessAware, "passes", passes)
    return found


def recalls(folder):
    return [json.loads(line)["tail_recall"] for line in RunFolder(folder).metrics.read_text().splitlines()]


def test_the_steps_are_plain_until_the_tail_is_learned_and_not_after(tmp_path, train, perturbed):
    run = train(tmp_path / "a", **DIGITS, sharp_recall=0.8)
    assert len(perturbed) == EPOCHS * STEPS
    looked = [recall for recall in recalls(tmp_path / "a") if recall is not None]
    first = len(looked)
    assert 1 < first < EPOCHS
    assert all(recall < 0.8 for recall in looked[:-1])
    assert looked[-1] >= 0.8
    assert perturbed == [step >= first * STEPS for step in range(EPOCHS * STEPS)]
    assert not any("never perturbed" in note for note in run.notes)


def test_they_are_plain_before_their_share_of_the_steps_too(tmp_path, train, perturbed):
    begin = 5 * STEPS + 2
    train(tmp_path / "a", **DIGITS, sharp_recall=0.01, sharp_from=begin / EPOCHS / STEPS)
    assert perturbed == [step >= begin for step in range(EPOCHS * STEPS)]
    # Only before the epoch in which it may begin is there anything to look at.
    assert [recall is not None for recall in recalls(tmp_path / "a")] == [False] * 4 + [True] + [False] * 7


def test_a_tail_that_is_never_learned_leaves_the_run_of_the_base_optimizer_and_says_so(tmp_path, train, perturbed):
    short = {"epochs": 4, "batch_size": 64, "select": "last"}
    waiting = train(tmp_path / "waiting", **short, rho=0.2, sharp_recall=1.0)
    assert not any(perturbed)
    plain = train(tmp_path / "plain", **short, method="sgd")
    first, second = (RunFolder(tmp_path / name).read_weights() for name in ("waiting", "plain"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert waiting.test == plain.test
    assert waiting.cost_ratio == 1.0
    *looked, last = recalls(tmp_path / "waiting")
    assert last is None
    (note,) = [note for note in waiting.notes if "never perturbed" in note]
    assert "did not reach 100 % (--sharp-recall)" in note
    assert f"was {100 * looked[-1]:.1f} % before the last epoch" in note
    assert note.endswith("a run of sgd.")
    assert recalls(tmp_path / "plain") == [None] * 4


@pytest.mark.parametrize("values", [{"epochs": 1}, {"epochs": 3, "sharp_from": 1.0}])
def test_without_a_look_the_note_says_so(tmp_path, train, perturbed, values):
    run = train(tmp_path / "a", batch_size=64, sharp_recall=0.01, **values)
    assert not any(perturbed)
    (note,) = [note for note in run.notes if "never perturbed" in note]
    assert "no epoch was left" in note
    assert set(recalls(tmp_path / "a")) == {None}


def test_the_recall_is_that_of_the_weights_on_the_training_samples_of_the_tail(tmp_path, options):
    chosen = options(epochs=2, batch_size=64, sharp_recall=1.0, select="last")
    problem = setup.load_problem("digits", chosen)
    model, train, expected = setup.build_model(problem), problem.dataset.train, []

    def on_epoch(record):
        if record.epoch == 1:
            model.load_state_dict(RunFolder(tmp_path / "a").read_weights())
            right = model.eval()(evaluation_transform(problem.dataset.spec)(train.values)).argmax(1) == train.targets
            classes = problem.tail.nonzero().flatten().tolist()
            expected.append(sum(float(right[train.targets == c].double().mean()) for c in classes) / len(classes))

    fit(RunFolder(tmp_path / "a"), "digits", chosen, on_epoch=on_epoch)
    assert recalls(tmp_path / "a") == [pytest.approx(expected[0], abs=1e-12), None]
    assert 0 < expected[0] < 1


@pytest.mark.parametrize("method", ["imbsam", "looksam", "sampa"])
def test_a_run_resumes_bit_for_bit_on_either_side_of_the_onset(tmp_path, options, method):
    values = {"method": method, "batch_size": 64, "rho": 0.1}
    for killed_after in (1, 3):
        place = tmp_path / str(killed_after)
        assert_same_run(*train_twice(place, options, "digits", killed_after, sharp_recall=0.6, **values))
    within = {"epochs": 3, "sharp_recall": 0.01, **values}
    assert_same_run(*stopped_within_an_epoch(tmp_path / "within", options, "digits", **within))


def test_plain_methods_and_blends_take_no_such_recall(tmp_path, train, parts_csv):
    with pytest.raises(OptionError, match="sgd is plain: it takes no --sharp-recall"):
        train(tmp_path / "a", method="sgd", sharp_recall=0.5)
    with pytest.raises(OptionError, match="--method blend takes no --sharp-recall"):
        train(tmp_path / "a", parts_csv, target="kind", method="blend", sharp_recall=0.5)
    assert not (tmp_path / "a").exists()


def test_some_samples_are_those_of_the_others():
    values, targets = torch.arange(12.0).view(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    some = data.SomeSamples(data.TensorSamples(values, targets, list("abcdef")), torch.tensor([4, 1]))
    assert len(some) == 2
    assert some.targets.tolist() == [1, 1]
    assert some.names == ["e", "b"]
    assert some.batch(torch.tensor([1])).tolist() == [[2.0, 3.0]]
