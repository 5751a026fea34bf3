"""Standard input as the rows to predict or score."""

import io
import json

import pandas as pd
import pytest

from imbsam.cli import main


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A folder with a table of two classes, in which the commands run, and the table."""
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"size": [float(i) for i in range(60)], "kind": ["usual"] * 50 + ["rare"] * 10})
    frame["known"] = (frame["kind"] == "rare").astype(int)
    frame.to_csv("t.csv", index=False)
    return frame


def run(*words, code=0):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == code


def given(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("packed", [False, True])
def test_rows_on_standard_input_are_predicted_as_those_of_the_file(rows, tmp_path, monkeypatch, packed):
    run("train", "t.csv", "--target", "kind", "--ignore", "known", "--epochs", "1", "--out", "run", "--quiet")
    later = rows[["size"]]
    later.to_csv("l.csv", index=False)
    later.to_parquet("l.parquet")
    run("predict", "run", "l.csv", "--out", "file.csv")
    given(monkeypatch, (tmp_path / ("l.parquet" if packed else "l.csv")).read_bytes())
    run("predict", "run", "-", "--out", "stdin.csv")
    assert (tmp_path / "stdin.csv").read_text() == (tmp_path / "file.csv").read_text()


def test_rows_on_standard_input_are_scored(rows, tmp_path, monkeypatch):
    run("anomaly", "fit", "t.csv", "--labels", "known", "--ignore", "kind", "--steps", "5", "--out", "det", "--quiet")
    run("anomaly", "score", "det", "t.csv", "--out", "file.csv")
    given(monkeypatch, (tmp_path / "t.csv").read_bytes())
    run("anomaly", "score", "det", "-", "--out", "stdin.csv")
    assert (tmp_path / "stdin.csv").read_text() == (tmp_path / "file.csv").read_text()


def test_nothing_on_standard_input_is_said(rows, monkeypatch, capsys):
    run("train", "t.csv", "--target", "kind", "--ignore", "known", "--epochs", "1", "--out", "run", "--quiet")
    given(monkeypatch, b"")
    run("predict", "run", "-", code=2)
    assert "standard input is empty" in capsys.readouterr().err


@pytest.mark.filterwarnings("always::imbsam.errors.DataWarning")
def test_what_could_not_be_read_is_printed_and_in_the_json_of_predict(rows, capsys):
    run("train", "t.csv", "--target", "kind", "--ignore", "known", "--epochs", "1", "--out", "run", "--quiet")
    cells = ["wide" if row == 3 else str(size) for row, size in enumerate(rows["size"])]
    pd.DataFrame({"size": cells}).to_csv("l.csv", index=False)
    capsys.readouterr()
    run("predict", "run", "l.csv", "--out", "p.csv", "--json")
    printed = capsys.readouterr()
    told = "column 'size': 1 value is not a number, first 'wide' in row 4; read as missing"
    assert told in printed.err
    assert any(told in note for note in json.loads(printed.out)["notes"])
