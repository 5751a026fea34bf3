import io
from pathlib import Path

import pytest
from rich.console import Console

from imbsam.cli import progress, show
from imbsam.config import Options
from imbsam.runs.folder import RunFolder
from imbsam.studies.compare import Outcome, PlannedRun
from made_records import made_epoch as record
from made_records import made_metrics


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (5, 5), (20, 20), (39, 39), (40, 21), (100, 21), (1000, 21)])
def test_a_long_run_is_told_in_about_twenty_lines(capsys, epochs, lines):
    with progress.RunProgress(quiet=False) as told:
        for epoch in range(1, epochs + 1):
            told.epoch(record(epoch, epochs))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    assert shown[0].split()[1] == f"{1}/{epochs}" or shown[0].startswith("epoch ")
    assert shown[-1].startswith(f"epoch {epochs}/{epochs}  loss 0.5000")


def test_an_epoch_shows_what_was_measured(capsys):
    with progress.RunProgress(quiet=False) as told:
        told.epoch(record(3, 9, validation=made_metrics(balanced=0.5, few=0.125, tail=0.25, many=0.9)))
        told.epoch(record(4, 9, validation=made_metrics(balanced=0.5, few=None, tail=None)))
        told.epoch(record(5, 9))
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3/9  loss 0.5000  validation  balanced 50.0 %  few 12.5 %  tail 25.0 %  1.25 s",
        "epoch 4/9  loss 0.5000  validation  balanced 50.0 %  1.25 s",
        "epoch 5/9  loss 0.5000  1.25 s",
    ]


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal; gives what was written to it."""
    file = io.StringIO()
    monkeypatch.setattr(show, "err", Console(file=file, force_terminal=True, width=120, highlight=False))
    return file


def test_in_a_terminal_a_bar_goes_by_the_steps_with_the_rare_classes_accuracy_beside_it(terminal):
    with progress.RunProgress(quiet=False) as told:
        told.step(5, 10, 1, 4)
        told.epoch(record(1, 4, validation=made_metrics(balanced=0.5, few=0.125)))
        told.step(2, 10, 2, 4)
        (task,) = told._bar.tasks
        assert (task.completed, task.total) == (12, 40)
    shown = terminal.getvalue()
    assert "epoch 2/4" in shown
    assert "few 12.5 %" in shown


def test_in_a_terminal_quiet_shows_no_bar(terminal):
    with progress.RunProgress(quiet=True) as told:
        told.begin(["a note"])
        told.step(5, 10, 1, 4)
        told.epoch(record(1, 4))
    assert terminal.getvalue() == ""


def test_quiet_shows_nothing(capsys):
    with progress.RunProgress(quiet=True) as told:
        told.epoch(record(1, 1))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_comparison_counts_the_runs_that_ended(tmp_path, capsys):
    folders = [tmp_path / "a-seed0", tmp_path / "b-seed0"]
    with progress.ComparisonProgress(folders, quiet=False) as told:
        told.finished(Outcome(PlannedRun(folders[0], "a", Options()), None))
        told.finished(Outcome(PlannedRun(folders[1], "b", Options()), "no luck"))
    assert capsys.readouterr().err.splitlines() == ["1 of 2 runs: a-seed0 done", "2 of 2 runs: b-seed0 failed"]


def test_the_bar_goes_by_the_epochs_that_are_written(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, epochs in zip(folders, (3, 1), strict=True):
        folder.mkdir()
        run = RunFolder(folder)
        run.write_config("digits", Options().updated({"epochs": 5}))
        for epoch in range(epochs):
            run.append_metrics(record(epoch + 1, 5, validation=made_metrics(few=epoch / 10)))
    with (folders[0] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "vali')
    found = progress.ComparisonProgress(folders, quiet=True)._so_far()
    assert found == {"completed": 4, "total": 10, "scores": "few-shot so far: a 20.0 %  b 0.0 %"}
    assert progress.ComparisonProgress([Path("nowhere")], quiet=True)._so_far() == {
        "completed": 0,
        "total": None,
        "scores": "",
    }


def test_the_notes_on_the_data_come_before_the_first_epoch(capsys):
    for quiet in (False, True):
        progress.RunProgress(quiet=quiet).begin(["a [note]"])
    assert capsys.readouterr().err == "note: a [note]\n"
