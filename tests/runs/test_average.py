"""Runs that keep the average of their weights."""

import json

import pytest
import torch

from imbsam.errors import OptionError
from imbsam.report import write_report
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.loop import Training
from imbsam.runs.trained import Trained
from imbsam.training.averaging import averaged_weights
from runs.test_resume import RESNET, assert_same, assert_same_run, stopped_within_an_epoch, train_twice
from tiny_data import image_folder

EMA = {"average": "ema", "average_decay": 0.9}


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_weights_that_are_kept_are_the_average_after_the_chosen_epoch(tmp_path, options, monkeypatch, select):
    seen = []
    original = Training._step

    def step(training, *batch):
        loss = original(training, *batch)
        seen.append({name: tensor.clone() for name, tensor in training.bare.state_dict().items()})
        return loss

    monkeypatch.setattr(Training, "_step", step)
    result = fit(RunFolder(tmp_path), "digits", options(select=select, epochs=3, batch_size=64, **EMA))
    expected, chosen = {}, len(seen) // 3 * result.best_epoch
    for t, state in enumerate(seen[:chosen]):
        decay = min(0.9, (1 + t) / (10 + t))
        now = {name: tensor.double() for name, tensor in state.items()}
        expected = now if not t else {n: decay * expected[n] + (1 - decay) * v for n, v in now.items()}
    kept = RunFolder(tmp_path).read_weights()
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-4, atol=1e-6)
        assert not torch.equal(tensor, seen[chosen - 1][name])
    # What is said of the run is said of these weights.
    found = Trained.open(tmp_path).evaluate()
    assert found.per_class == result.test.per_class


def test_training_itself_is_not_changed_by_it(tmp_path, train):
    train(tmp_path / "plain")
    train(tmp_path / "averaged", **EMA)
    plain, averaged = (RunFolder(tmp_path / name).read_checkpoint() for name in ("plain", "averaged"))
    assert_same(dict(plain.model), dict(averaged.model))
    assert_same(plain.optimizer, averaged.optimizer)
    assert plain.average is None
    assert plain.measured is plain.model
    assert_same(dict(averaged.measured), averaged_weights(averaged.average))


@pytest.mark.parametrize("method", ["sgd", "imbsam"])
def test_a_run_resumes_bit_for_bit(tmp_path, options, method):
    assert_same_run(*train_twice(tmp_path, options, "digits", 2, method=method, **EMA))


def test_a_resnet_with_batchnorm_resumes_bit_for_bit(tmp_path, pets, options):
    assert_same_run(*train_twice(tmp_path, options, pets, 2, **RESNET, **EMA))


def test_a_run_stopped_within_an_epoch_resumes_bit_for_bit(tmp_path, options):
    pets = image_folder(tmp_path / "pets")
    assert_same_run(*stopped_within_an_epoch(tmp_path, options, pets, **RESNET, **EMA))


def test_report_and_card_say_so(tmp_path, train):
    train(tmp_path / "averaged", **EMA)
    train(tmp_path / "plain")
    said = "exponential moving average, decay 0.9"
    for name, told in (("averaged", True), ("plain", False)):
        page = write_report(tmp_path / name).read_text()
        assert (said in page) == told
        assert (said in (tmp_path / name / "model-card.md").read_text()) == told
    assert json.loads((tmp_path / "averaged" / "result.json").read_text())["config"]["average"] == "ema"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"average_decay": 0.5}, "add --average ema"),
        ({"average": "ema", "method": "blend"}, "--method blend takes no --average"),
    ],
)
def test_what_has_no_effect_is_refused(tmp_path, train, parts_csv, values, told):
    with pytest.raises(OptionError, match=told):
        train(tmp_path, parts_csv, target="kind", **values)


def test_of_a_table_an_average_asks_for_a_network(tmp_path, train, parts_csv):
    assert train(tmp_path, parts_csv, target="kind", method="auto", average="ema").method == "imbsam"
