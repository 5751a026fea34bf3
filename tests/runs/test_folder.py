import json
from dataclasses import asdict

import pytest
import torch

from imbsam.config import Options
from imbsam.errors import OptionError, RunError
from imbsam.runs.checkpoint import Checkpoint, Progress
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import DataRecord, Examples
from imbsam.storage.files import as_json
from made_records import made_epoch, made_result

DATA = DataRecord(
    name="ab",
    classes=("a", "\\x80b \u202e"),
    counts=(9, 3),
    groups=("few", "few"),
    tail=(False, True),
    notes=(),
    preprocess={"kind": "table"},
    asked={"rho": 0.1},
)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def begun(folder) -> RunFolder:
    folder.write_data(DATA)
    folder.write_config("digits", Options())
    return folder


def test_options_come_back_as_they_were_written(folder):
    options = Options().updated({"rho": 0.3, "hidden": [3, 4], "weights": "a.pt", "ignore": ["id", "größe"]})
    folder.write_config("my data/ü.csv", options)
    assert folder.exists()
    assert folder.read_config() == ("my data/ü.csv", options)


@pytest.mark.parametrize("content", [None, {"readme.txt": "hello"}])
def test_a_folder_without_a_run_is_named(folder, content):
    for name, text in (content or {}).items():
        (folder.path / name).write_text(text)
    assert not folder.exists()
    with pytest.raises(RunError, match="is not a run's folder: it has no config"):
        folder.read_config()


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(RunError, match="nowhere is not a run's folder"):
        RunFolder(tmp_path / "nowhere").read_config()


def test_an_unknown_option_in_the_config_is_named(folder):
    (folder.path / "config.yaml").write_text("source: digits\nrh: 1\n")
    with pytest.raises(OptionError, match="no option rh"):
        folder.read_config()


def test_weights_come_back_bit_for_bit_in_their_dtype(begun):
    state = {
        "a": torch.randn(3, 4).t(),
        "b": torch.randn(5, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
        "view": torch.randn(10)[2:5],
    }
    begun.write_weights(state, 3)
    found = begun.read_weights()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in state.items())


def test_weights_of_later_epochs_do_not_read_the_options_again(begun, monkeypatch):
    begun.write_weights({"w": torch.ones(1)}, 1)
    monkeypatch.setattr(RunFolder, "read_config", None)
    begun.write_weights({"w": torch.zeros(1)}, 2)
    assert begun.read_weights()["w"] == 0


def test_weights_are_told_from_those_of_options_that_change_while_they_stand(begun):
    begun.write_weights({"w": torch.ones(1)}, 1)
    begun.write_config("digits", Options().updated({"rho": 0.5}))
    with pytest.raises(RunError, match=r"one of them has changed"):
        begun.read_weights()


def test_tied_weights_are_written_once_for_each_name(begun):
    shared = torch.randn(4)
    begun.write_weights({"first": shared, "second": shared}, 1)
    assert torch.equal(begun.read_weights()["second"], shared)


def test_missing_weights_say_how_to_go_on(folder):
    with pytest.raises(RunError, match="imbsam train --resume"):
        folder.read_weights()


def test_damaged_weights_are_named(folder):
    folder.weights.write_bytes(b"nonsense")
    with pytest.raises(RunError, match=r"best\.safetensors is damaged"):
        folder.read_weights()


def test_a_missing_checkpoint_is_named(folder):
    with pytest.raises(RunError, match="has no checkpoint"):
        folder.read_checkpoint()


def test_metrics_keep_the_epochs_that_count(folder):
    for epoch in (1, 2, 3):
        folder.append_metrics(made_epoch(epoch))
    assert folder.epochs() == [made_epoch(1), made_epoch(2), made_epoch(3)]
    folder.keep_metrics(2)
    assert [record.epoch for record in folder.epochs()] == [1, 2]
    folder.keep_metrics(0)
    assert folder.metrics.read_text() == ""


def test_a_damaged_line_of_metrics_is_named_or_left_out(folder):
    folder.append_metrics(made_epoch(1))
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 2, "half a li')
    assert folder.whole_epochs() == [made_epoch(1)]
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2: not valid JSON"):
        folder.epochs()


def test_data_come_back_as_they_were_written_whatever_a_class_is_called(folder):
    folder.write_data(DATA)
    assert folder.read_data() == DATA


def test_data_whose_lists_differ_in_length_are_refused(folder):
    content = json.loads(as_json(asdict(DATA)))
    (folder.path / "data.json").write_text(json.dumps(content | {"counts": [9]}))
    with pytest.raises(RunError, match=r"data\.json: counts has 1 entries for 2 classes"):
        folder.read_data()


def test_metrics_that_cannot_be_written_are_named(folder):
    folder.metrics.mkdir()
    with pytest.raises(RunError, match=r"cannot write .*metrics\.jsonl: Is a directory"):
        folder.append_metrics(made_epoch(1))


def test_clearing_removes_the_run_and_nothing_else(folder):
    folder.write_config("digits", Options())
    folder.write_data(DATA)
    folder.write_result(made_result("imbsam", 0))
    folder.write_examples(Examples(1, "test", ()))
    folder.append_metrics(made_epoch(1))
    folder.write_checkpoint(Checkpoint({}, Progress(), None, {}, {}, 0, []))
    folder.write_weights({"a": torch.zeros(1)}, 1)
    (folder.path / "tensorboard").mkdir()
    (folder.path / "tensorboard" / "events").write_text("")
    (folder.path / "my notes.txt").write_text("precious")
    folder.clear()
    assert [path.name for path in folder.path.iterdir()] == ["my notes.txt"]
    assert not folder.exists()


def test_clearing_what_is_not_there_does_nothing(tmp_path):
    RunFolder(tmp_path / "nowhere").clear()
    assert not (tmp_path / "nowhere").exists()
