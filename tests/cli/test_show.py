import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from imbsam.cli import show
from imbsam.config import Options
from imbsam.engine import Outcome, PlannedRun, RunFolder


def record(epoch, epochs, validation=None):
    return {"epoch": epoch, "epochs": epochs, "train_loss": 0.5, "seconds": 1.25, "validation": validation}


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (5, 5), (20, 20), (39, 39), (40, 21), (100, 21), (1000, 21)])
def test_a_long_run_is_told_in_about_twenty_lines(capsys, epochs, lines):
    with show.RunProgress(quiet=False) as told:
        for epoch in range(1, epochs + 1):
            told.epoch(record(epoch, epochs))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    assert shown[0].split()[1] == f"{1}/{epochs}" or shown[0].startswith("epoch ")
    assert shown[-1].startswith(f"epoch {epochs}/{epochs}  loss 0.5000")


def test_an_epoch_shows_what_was_measured(capsys):
    with show.RunProgress(quiet=False) as told:
        told.epoch(record(3, 9, {"balanced": 0.5, "few": 0.125, "many": 0.9}))
        told.epoch(record(4, 9, {"balanced": 0.5, "few": None}))
        told.epoch(record(5, 9))
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3/9  loss 0.5000  validation  balanced 50.0 %  few 12.5 %  1.25 s",
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
    with show.RunProgress(quiet=False) as told:
        told.step(5, 10, 1, 4)
        told.epoch(record(1, 4, {"balanced": 0.5, "few": 0.125}))
        told.step(2, 10, 2, 4)
        (task,) = told._bar.tasks
        assert (task.completed, task.total) == (12, 40)
    shown = terminal.getvalue()
    assert "epoch 2/4" in shown
    assert "few 12.5 %" in shown


def test_in_a_terminal_quiet_shows_no_bar(terminal):
    with show.RunProgress(quiet=True) as told:
        told.begin(["a note"])
        told.step(5, 10, 1, 4)
        told.epoch(record(1, 4))
    assert terminal.getvalue() == ""


def test_quiet_shows_nothing(capsys):
    with show.RunProgress(quiet=True) as told:
        told.epoch(record(1, 1))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_comparison_counts_the_runs_that_ended(tmp_path, capsys):
    folders = [tmp_path / "a-seed0", tmp_path / "b-seed0"]
    with show.ComparisonProgress(folders, quiet=False) as progress:
        progress.finished(Outcome(PlannedRun(folders[0], "a", Options()), None))
        progress.finished(Outcome(PlannedRun(folders[1], "b", Options()), "no luck"))
    assert capsys.readouterr().err.splitlines() == ["1 of 2 runs: a-seed0 done", "2 of 2 runs: b-seed0 failed"]


def test_the_bar_goes_by_the_epochs_that_are_written(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, epochs in zip(folders, (3, 1), strict=True):
        folder.mkdir()
        run = RunFolder(folder)
        run.write_config("digits", Options().updated({"epochs": 5}))
        for epoch in range(epochs):
            run.append_metrics({"epoch": epoch + 1, "validation": {"few": epoch / 10}})
    with (folders[0] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "vali')
    found = show.ComparisonProgress(folders, quiet=True)._epochs()
    assert found == {"completed": 4, "total": 10, "scores": "few-shot so far: a 20.0 %  b 0.0 %"}
    assert show.ComparisonProgress([Path("nowhere")], quiet=True)._epochs() == {"scores": ""}


def result(**changes):
    scores = {"overall": 0.5, "balanced": 0.25, "many": None, "medium": 1.0, "few": 0.0, "macro_f1": 0.125}
    common = {"label": "imbsam", "source": "my[red]data", "best_epoch": 7, "notes": ["a [note]"]}
    return {**common, "test": scores, "validation": None, **changes}


def test_the_notes_on_the_data_come_before_the_first_epoch(capsys):
    for quiet in (False, True):
        show.RunProgress(quiet=quiet).begin(["a [note]"])
    assert capsys.readouterr().err == "note: a [note]\n"


def test_a_result_shows_the_test_scores(capsys):
    show.result(result())
    captured = capsys.readouterr()
    assert "imbsam on my[red]data, test data, epoch 7" in captured.out
    assert re.search(r"50\.0 +25\.0 +- +100\.0 +0\.0 +12\.5", captured.out)


def test_without_test_data_the_validation_scores_are_shown(capsys):
    show.result(result(test=None, validation=result()["test"]))
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "validation data" in captured.out


def test_without_any_data_to_measure_on_it_says_so(capsys):
    show.result(result(test=None))
    assert capsys.readouterr().out == "no test or validation data: nothing was measured.\n"


def test_predictions_are_summed_up_most_frequent_class_first(capsys):
    show.predictions(Path("p[1].csv"), 6, ("cat", "[b]dog", "eel"), (2, 4, 0))
    assert capsys.readouterr().out == "6 predictions: p[1].csv\n  [b]dog 4, cat 2\n"


def test_a_warning_is_one_sentence(capsys):
    show.warning(UserWarning("rows were skipped."), UserWarning, "secret/place.py", 3)
    assert capsys.readouterr().err == "warning: rows were skipped.\n"
