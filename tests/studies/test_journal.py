import errno
import json
import os

import pytest
from optuna.storages import journal as optuna_journal

from imbsam.errors import RunError
from imbsam.studies.journal import Journal
from imbsam.studies.tune import Range, Search, tune
from imbsam.studies.workers import Workers
from reliability import small

LINES = [{"op_code": 0, "number": number} for number in range(3)]


class Killed(BaseException):
    """As a signal that no handler sees."""


def searched(folder, table):
    search = Search([Range.parse("rho"), Range.parse("tail=auto|rarest-classes=0.4")], trials=2)
    return list(tune(folder, str(table), small.options(epochs=1), search, workers=Workers(1)))


def kept(folder):
    trials = json.loads((folder / "tune.json").read_text())["trials"]
    return trials, [(path.parent.name, path.read_bytes()) for path in sorted(folder.glob("runs/*/best.safetensors"))]


@pytest.fixture
def table(tmp_path):
    return small.source(tmp_path)


def test_killed_between_any_two_lines_a_study_goes_on_as_it_would_have(tmp_path, table, monkeypatch):
    tried = searched(tmp_path / "whole", table)
    append, lines = Journal.append_logs, []

    def killed_after(self, logs):
        append(self, logs)
        lines.append(logs)
        if len(lines) == last:
            raise Killed

    monkeypatch.setattr(Journal, "append_logs", killed_after)
    ended, last = False, 0
    while not ended:
        last += 1
        lines.clear()
        folder = tmp_path / f"after{last}"
        try:
            ended = bool(searched(folder, table))
        except Killed:
            assert searched(folder, table) == tried
        assert kept(folder) == kept(tmp_path / "whole")
    # Two lines of the study, and of each trial its beginning and its end.
    assert last == 2 + 2 * 2 + 1


def test_the_lock_of_a_killed_process_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "trials.journal"
    Journal(path)
    assert optuna_journal.JournalFileSymlinkLock(str(path)).acquire()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits for the lock"))
    Journal(path).append_logs(LINES)
    assert list(Journal(path).read_logs(0)) == LINES


@pytest.mark.parametrize("end", [b'{"op_c', b'{"op_code":0,"number":2}'])
def test_a_line_that_was_cut_is_dropped_and_the_next_is_a_line_of_its_own(tmp_path, end):
    path = tmp_path / "trials.journal"
    Journal(path).append_logs(LINES[:2])
    path.write_bytes(path.read_bytes() + end)
    Journal(path).append_logs(LINES[2:])
    assert list(Journal(path).read_logs(0)) == LINES


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_whichever_write_fails_a_study_says_so_and_goes_on_as_it_would_have(tmp_path, table, monkeypatch, fault):
    tried = searched(tmp_path / "whole", table)
    fsync, writes = os.fsync, []

    def failing(descriptor):
        writes.append(descriptor)
        if len(writes) == at:
            raise OSError(fault, os.strerror(fault))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    for at in range(1, 60, 5):
        writes.clear()
        folder = tmp_path / f"at{at}"
        found, told = attempted(folder, table)
        if found:
            # A write of a trial's run, whose trial failed with that.
            told = [each.error for each in found if each.error]
            assert len(told) == (len(writes) >= at)
        else:
            assert searched(folder, table) == tried
            assert kept(folder) == kept(tmp_path / "whole")
        assert all(os.strerror(fault) in error for error in told)


def attempted(folder, table):
    """The trials made, or what was told where it could not go on."""
    try:
        return searched(folder, table), []
    except RunError as error:
        return [], [str(error)]


def test_a_journal_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "trials.journal").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*trials\.journal: Is a directory"):
        Journal(tmp_path / "trials.journal")
