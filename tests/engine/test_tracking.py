import builtins

import pytest

from imbsam.engine.tracking import Tracker

pytest.importorskip("tensorboard")

RECORD = {"epoch": 1, "train_loss": 0.5, "seconds": 1.0, "validation": {"balanced": 0.25, "per_class": [0.5, None]}}


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


# TensorBoard's own reader, used here only, closes nothing and calls what newer numpy has renamed.
@pytest.mark.filterwarnings("ignore")
def test_an_epoch_is_written_as_scalars(tmp_path):
    with Tracker(tmp_path, enabled=True) as tracker:
        tracker.write(RECORD)
        tracker.write({**RECORD, "epoch": 2, "train_loss": 0.25, "validation": None})
    found = scalars(tmp_path)
    assert found["train/train_loss"] == [(1, 0.5), (2, 0.25)]
    assert found["validation/balanced"] == [(1, 0.25)]
    assert found["validation/recall/0"] == [(1, 0.5)]
    assert "validation/recall/1" not in found


@pytest.mark.filterwarnings("ignore")
def test_epochs_that_are_trained_again_are_not_shown_twice(tmp_path):
    with Tracker(tmp_path, enabled=True) as tracker:
        for epoch in (1, 2, 3):
            tracker.write({**RECORD, "epoch": epoch})
    with Tracker(tmp_path, enabled=True, from_epoch=1) as tracker:
        tracker.write({**RECORD, "epoch": 2, "train_loss": 7.0})
    assert scalars(tmp_path)["train/train_loss"] == [(1, 0.5), (2, 7.0)]


def test_nothing_is_written_unless_asked_for(tmp_path):
    with Tracker(tmp_path, enabled=False) as tracker:
        tracker.write(RECORD)
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with Tracker(tmp_path, enabled=True) as tracker:
        tracker.write(RECORD)
    assert list(tmp_path.iterdir()) == []
