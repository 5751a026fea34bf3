"""What can fail at the end is found out before the work, and nothing is left behind."""

import pytest

from imbsam.runs import fit as fitting
from imbsam.runs.trained import Trained


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Fail where the work begins."""

    def begun(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(fitting.setup, "load_problem", begun)
    monkeypatch.setattr(Trained, "open", begun)
    monkeypatch.setattr("imbsam.cli.anomaly.read_training", begun)
    monkeypatch.setattr("imbsam.anomaly.saved.SavedDetector.open", begun)


COMMANDS = [
    ("train", "digits"),
    ("compare", "digits"),
    ("tune", "digits"),
    ("predict", "{run}", "digits"),
    ("retrain", "{run}"),
    ("export", "{run}"),
    ("sharpness", "{run}"),
    ("anomaly", "fit", "t.csv"),
    ("anomaly", "score", "det", "t.csv"),
    ("anomaly", "evaluate", "det", "t.csv"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("place", ["file/out.onnx", "new/" + "n" * 256 + ".onnx", "/proc/nothing/out.onnx"])
def test_every_place_of_an_output_is_tried_first(fails, run, tmp_path, words, place):
    for name in ("file", "t.csv"):
        (tmp_path / name).write_text("x")
    if words[0] == "tune":
        pytest.importorskip("optuna")
    if words[0] == "export":
        pytest.importorskip("onnxruntime")
    told = fails(*(word.format(run=run) for word in words), "--out", place)
    assert place.split("/")[1] in told
    assert "\n" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "t.csv"]


@pytest.mark.parametrize("words", COMMANDS[3:4] + COMMANDS[8:9], ids=" ".join)
def test_an_output_never_replaces_its_input(fails, run, tmp_path, words):
    (tmp_path / "t.csv").write_text("x")
    assert "would replace the input data" in fails(*words[:-1], "t.csv", "--out", "t.csv")
    assert (tmp_path / "t.csv").read_text() == "x"


@pytest.mark.parametrize("words", COMMANDS[:3] + COMMANDS[7:8], ids=" ".join)
def test_no_run_is_written_into_the_folder_of_its_data(fails, tmp_path, words):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    assert "would be among the input data" in fails(*words[:-1], "photos", "--out", "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat"]


def test_a_folder_where_the_report_must_be_is_told_first(fails, tmp_path):
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    assert "run/report.html: a folder has this name" in fails("train", "digits", "--out", "run")


def test_a_package_that_the_end_needs_is_missed_first(fails, run, monkeypatch):
    monkeypatch.setattr("imbsam.runs.export.find_spec", lambda name: None)
    assert "pip install 'imbsam[onnx]'" in fails("export", run)
