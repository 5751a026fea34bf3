import pytest

from imbsam.runs.tracking.events import Events

pytest.importorskip("tensorboard")
# TensorBoard's own reader, used here only, closes nothing and calls what newer numpy has renamed.
pytestmark = pytest.mark.filterwarnings("ignore")

RECORD = {"epoch": 1, "train_loss": 0.5, "seconds": 1.0, "validation": {"balanced": 0.25, "per_class": [0.5, None]}}


def test_an_epoch_is_written_as_scalars(tmp_path, scalars):
    events = Events(tmp_path, [])
    events.write(RECORD)
    events.write({**RECORD, "epoch": 2, "train_loss": 0.25, "validation": None})
    events.close(None)
    found = scalars(tmp_path)
    assert found["train/train_loss"] == [(1, 0.5), (2, 0.25)]
    assert found["validation/balanced"] == [(1, 0.25)]
    assert found["validation/recall/0"] == [(1, 0.5)]
    assert "validation/recall/1" not in found


def test_epochs_that_are_trained_again_are_not_shown_twice(tmp_path, scalars):
    events = Events(tmp_path, [])
    for epoch in (1, 2, 3):
        events.write({**RECORD, "epoch": epoch})
    events.close(None)
    events = Events(tmp_path, [RECORD])
    events.write({**RECORD, "epoch": 2, "train_loss": 7.0})
    events.close(None)
    assert scalars(tmp_path)["train/train_loss"] == [(1, 0.5), (2, 7.0)]


def test_epochs_that_a_killed_process_took_along_are_written_again(tmp_path, scalars):
    events = Events(tmp_path, [RECORD, {**RECORD, "epoch": 2}])
    events.write({**RECORD, "epoch": 3})
    events.close(KeyboardInterrupt())
    assert [step for step, _ in scalars(tmp_path)["train/train_loss"]] == [1, 2, 3]
