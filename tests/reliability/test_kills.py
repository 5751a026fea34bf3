"""Killed at random moments, a command goes on to the bytes of one that was not; tests/reliability/kills.py has more."""

import os
import signal
import time

import pytest

from imbsam.errors import RunError
from imbsam.storage.files import alone
from imbsam.studies.workers import end_with
from reliability import kills

SLOW = [pytest.param(name, count, marks=pytest.mark.slow) for name, count in (("train", 4), ("compare", 1))]


@pytest.mark.parametrize(("name", "count"), [*SLOW, ("tune", 2), ("anomaly", 1)])
def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path, name, count):
    assert kills.kill(kills.WORKS[name](2), count, tmp_path)["kills"] == count


def forked(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_the_processes_of_a_comparison_end_with_the_one_that_was_killed():
    reads, writes = os.pipe()

    def parent():
        parent_of_it = os.getpid()

        def work():
            end_with(parent_of_it)
            os.write(writes, b"at work")
            time.sleep(60)

        forked(work)
        time.sleep(60)

    killed = forked(parent)
    os.close(writes)
    assert os.read(reads, 7) == b"at work"
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    # The end of the pipe: nobody holds its other side any more.
    assert os.read(reads, 1) == b""
    os.close(reads)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("imbsam.storage.files.WAIT", 0.0)
    with (
        alone(tmp_path / "run"),
        pytest.raises(RunError, match=r"another process is training in .*run"),
        alone(tmp_path / "run"),
    ):
        pass
    with alone(tmp_path / "run"):
        pass
