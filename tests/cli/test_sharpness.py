import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import imbsam.cli.sharpness as command
from imbsam.runs.folder import RunFolder
from imbsam.studies.comparison import Comparison

SMALL = ("--rows", 3, "--iterations", 3, "--probes", 2, "--points", 3, "--plane-points", 3)


@pytest.fixture
def mine(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "mine")


@pytest.fixture
def other(mine, tmp_path) -> Path:
    folder = shutil.copytree(mine, tmp_path / "other")
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "label": "sam"}))
    return folder


def test_a_run_gives_a_table_figures_a_page_and_json(imbsam, mine):
    ran = imbsam("sharpness", "mine", *SMALL)
    assert ran.code == 0
    assert "1 of 1: mine: 29 rows of 10 classes; expected: Hessian products of " in ran.err
    rows = [line.split() for line in ran.out.splitlines() if "imbsam" in line.split()]
    assert [words[: words.index("imbsam")] for words in rows[:2]] == [["overall"], ["many"]]
    assert ran.out.rstrip().endswith("report: mine/sharpness/report.html")
    folder = mine / "sharpness"
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == ["density", "line", "plane"]
    for path in (folder / "figures").iterdir():
        with Image.open(path) as image:
            image.load()
    held = json.loads((folder / "sharpness.json").read_text())
    assert held["command"].startswith("imbsam sharpness mine --rows 3")
    assert held["runs"] == [json.loads((mine / "sharpness-train.json").read_text())]


def test_several_runs_stand_side_by_side_and_the_first_is_the_baseline(imbsam, mine, other):
    ran = imbsam("sharpness", "mine", "other", *SMALL, "--out", "both", "--measures", "sam", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "SAM sharpness of the tail: sam " in ran.out
    assert "for imbsam (one seed)" in ran.out
    assert (Path("both") / "report.html").exists()
    assert not (Path("both") / "figures").exists()


def test_a_comparison_stands_for_its_finished_runs(imbsam, mine, other, tmp_path):
    Comparison(1, "digits", ("imbsam", "sam"), (0,), ("mine", "other", "never"), "").write(tmp_path)
    ran = imbsam("sharpness", ".", *SMALL, "--measures", "trace", "--json", "--quiet")
    content = json.loads(ran.out)
    assert [run["name"] for run in content["runs"]] == ["mine", "other"]
    assert [run["label"] for run in content["runs"]] == ["imbsam", "sam"]
    assert (tmp_path / "runs" / "sharpness" / "report.html").exists()


def test_a_second_time_nothing_is_measured_and_the_same_is_said(imbsam, mine):
    first, again = (imbsam("sharpness", "mine", *SMALL, "--measures", "trace") for _ in range(2))
    assert again.out == first.out
    assert "1 of 1: mine: measured before." in again.err


def test_an_interruption_tells_how_to_go_on(imbsam, mine, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.RunSharpness, "measure", stop)
    ran = imbsam("sharpness", "mine", *SMALL)
    assert ran.code == 130
    assert "Finished measures are kept; continue with the same command:\n  imbsam sharpness mine" in ran.err


def test_a_loss_that_is_not_finite_names_the_run(fails, mine):
    import torch

    held = RunFolder(mine).read_checkpoint()
    RunFolder(mine).write_checkpoint(replace(held, model={name: t * torch.inf for name, t in held.model.items()}))
    message = fails("sharpness", "mine", *SMALL, "--epoch", "last", "--quiet")
    assert message.startswith("mine: the Hessian of 10 of 10 classes is not finite (class 0). Look at ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the folders of trained runs"),
        (("nowhere",), "nowhere is not a run's folder"),
        (("mine", "mine"), "the same run is named twice"),
        (("mine", "--measures"), "--measures: tuple should have at least 1 item"),
        (("mine", "--rows", "0"), "--rows: input should be greater than or equal to 1; got 0."),
        (("mine", "--points", "4"), "--points: must be odd, so that the weights themselves are one of the points"),
        (("mine", "--device", "toaster"), "--device toaster cannot be used"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(fails, mine, words, message):
    assert message in fails("sharpness", *words)
    assert not (mine / "sharpness").exists()
