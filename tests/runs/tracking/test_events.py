"""Event files, read by TensorBoard's own reader."""

import pytest

from imbsam.runs.tracking.events import Events
from imbsam.runs.tracking.projection import Projection

pytest.importorskip("tensorboard")

EPOCHS = [(1, {"a": 1.0, "b": 0.5}), (2, {"a": 2.0, "b": 0.5}), (3, {"a": 3.0, "b": 0.5})]

HELD = {
    "nothing": [],
    "an epoch less": EPOCHS[:2],
    "an epoch in part, as a killed process leaves it": [EPOCHS[0], (2, {"a": 2.0})],
    "all": EPOCHS,
}


@pytest.fixture
def tell(tmp_path):
    """Let a process of its own bring event files to some epochs."""

    def told(*projected):
        events = Events(tmp_path)
        for epochs in projected:
            events.sync(Projection(epochs, [], {}))
        events.close(None)

    return told


def files_of(folder):
    return {path: path.read_bytes() for path in folder.glob("tensorboard/*")}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_whatever_the_files_hold_readers_come_to_see_each_epoch_once(tmp_path, tell, scalars, held):
    tell(held)
    tell(EPOCHS)
    assert scalars(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 3.0)], "b": [(1, 0.5), (2, 0.5), (3, 0.5)]}


def test_epochs_that_are_trained_again_are_not_shown_twice(tmp_path, tell, scalars):
    tell(EPOCHS)
    tell(EPOCHS[:1], [EPOCHS[0], (2, {"a": 7.0, "b": 0.5})])
    assert scalars(tmp_path)["a"] == [(1, 1.0), (2, 7.0)]


def test_called_again_nothing_is_written(tmp_path, tell):
    tell(EPOCHS, EPOCHS)
    held = files_of(tmp_path)
    assert len(held) == 1
    tell(EPOCHS)
    assert files_of(tmp_path) == held


def test_what_a_process_has_told_is_on_the_disk_before_it_ends(tmp_path, scalars):
    events = Events(tmp_path)
    for number in (1, 2):
        events.sync(Projection(EPOCHS[:number], [], {}))
        assert scalars(tmp_path)["a"] == [(1, 1.0), (2, 2.0)][:number]
    events.close(KeyboardInterrupt())
