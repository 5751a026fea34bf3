"""imbsam anomaly compare: from a file to a report, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from imbsam.cli import main

QUICK = ("default:steps=5", "forest:n_estimators=5", "logistic")


def run(*words, code=0):
    with pytest.raises(SystemExit) as ended:
        main(["anomaly", "compare", *map(str, words)])
    assert ended.value.code == code


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(90, 3)), columns=["a", "b", "c"])
    frame["kind"], frame["known"] = draw.choice(["x", "y"], 90), 0
    frame.loc[:11, ["a", "b"]] += 3
    frame.loc[:5, "known"] = 1
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_comparison_says_how_good_each_is_and_what_the_labels_can_tell(table, tmp_path, capsys):
    out = tmp_path / "out"
    run(table, "--labels", "known", "--out", out, "--seeds", 2, "--detectors", *QUICK)
    shown = capsys.readouterr()
    assert "6 labelled anomalies, 84 unlabelled" in shown.err
    assert "repeat 2 of 2, fold 5 of 5: logistic" in shown.err
    assert "With 6 labelled anomalies, differences in average precision below about" in shown.out
    page = (out / "report.html").read_text()
    assert all(name in page for name in (*QUICK, "Unlabelled rows count as normal", "not corrected for their number"))
    assert (out / "figures/detectors.png").is_file()
    kept = json.loads((out / "detectors.json").read_text())
    assert kept["plan"] == {"anomalies": 6, "others": 84, "folds": 5, "repeats": 2}
    assert list(kept["differences"]) == list(QUICK[1:])


def test_one_that_fails_is_named_in_every_answer_and_the_others_are_compared(table, tmp_path, capsys):
    words = (table, "--labels", "known", "--out", tmp_path, "--seeds", 1, "--quiet", "--json", "--detectors")
    run(*words, *QUICK[1:], "forest:n_estimators=-1", code=1)
    shown = capsys.readouterr()
    assert "forest:n_estimators=-1 failed and was left out" in shown.err
    found = json.loads(shown.out)
    assert list(found["failed"]) == ["forest:n_estimators=-1"]
    assert list(found["scores"]) == list(QUICK[1:])
    assert "failed and was left out" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("labelled", [0, 1])
def test_too_few_labels_are_refused_before_anything_is_fitted(table, labelled, capsys):
    frame = pd.read_csv(table)
    frame.loc[labelled:, "known"] = 0
    frame.to_csv(table, index=False)
    run(table, "--labels", "known", code=2)
    assert "a comparison needs two at least" in capsys.readouterr().err


def test_an_unknown_detector_is_refused_before_the_file_is_read(capsys):
    run("nothing.csv", "--labels", "known", "--detectors", "forest", "oak", code=2)
    assert "there is no detector 'oak'" in capsys.readouterr().err
