"""imbsam anomaly fit, score, evaluate: on tables and images, and what they refuse."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from imbsam.anomaly import Settings, fit, saved, sources
from imbsam.anomaly.words import LabelWords
from imbsam.cli import main
from imbsam.cli.commands import AnomalyFit, parse
from imbsam.data.sources.raw import Request
from imbsam.storage.files import harmless
from imbsam.storage.seal import sealed_tensors, unsealed_tensors

FAST = ("--epochs", "4", "--objective", "hsc", "--quiet")


def run(*words: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["anomaly", *map(str, words)])
    assert ended.value.code == code


def table(rows: int = 240, *, seed: int = 0, truth: bool = False) -> pd.DataFrame:
    """Rows around 0, every twelfth far off in two columns; a third of those are labelled."""
    draw = np.random.default_rng(seed)
    odd = np.arange(rows) % 12 == 0
    frame = pd.DataFrame(draw.normal(size=(rows, 3)), columns=["a", "b", "c"])
    frame.loc[odd, ["a", "b"]] += 4
    frame["kind"] = np.where(odd, "x", draw.choice(["x", "y"], rows))
    frame["name"] = [f"=row{i}" for i in range(rows)]
    frame["known"] = np.where(odd & (truth | (np.arange(rows) % 36 == 0)), 1, 0)
    return frame


@pytest.fixture(scope="module")
def fitted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    table().to_csv(folder / "train.csv", index=False)
    table(seed=1, truth=True).to_csv(folder / "test.csv", index=False)
    run("fit", folder / "train.csv", "--labels", "known", "--ignore", "name", "--out", folder / "det", *FAST)
    return folder


@pytest.fixture
def fitted(fitted_once: Path, tmp_path: Path) -> Path:
    """A folder of its own with train.csv, test.csv and the detector det."""
    shutil.copytree(fitted_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def scores(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_fit_says_what_it_read_and_what_its_threshold_is_estimated_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table().to_csv(tmp_path / "train.csv", index=False)
    run("fit", tmp_path / "train.csv", "--labels", "known", "--ignore", "name", "--out", tmp_path / "d", *FAST[:-1])
    shown = capsys.readouterr()
    assert "240 rows, 6 columns: 7 labelled anomalies, 233 unlabelled, 0 known to be normal" in shown.err
    assert "held out: 2 labelled anomalies" in shown.out
    assert f"imbsam anomaly score {tmp_path / 'd'} FILE" in shown.out
    assert f"report: {tmp_path / 'd' / 'fit.html'}" in shown.out


def test_the_report_of_a_fit_shows_the_unlabelled_rows_to_look_at_next(fitted: Path) -> None:
    page = (fitted / "det/fit.html").read_text()
    training = table()
    shown = [int(row) for row in re.findall(r'<th scope="row">(\d+)</th>', page)]
    assert len(shown) == 20
    assert (training["known"].iloc[[row - 1 for row in shown]] == 0).all()
    # Of the 240 rows 13 are far off and not labelled: by chance one of them would be among these.
    assert sum((row - 1) % 12 == 0 for row in shown) >= 7
    assert "labelled anomalies</dt><dd>7</dd>" in page


def test_fit_and_score_answer_in_json(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("fit", fitted / "train.csv", "--labels", "known", "--ignore", "name", "--out", fitted / "j", *FAST, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == {"unlabelled": 233, "anomalies": 7, "normal": 0}
    assert found["threshold"]["anomalies"] == 2
    run("score", fitted / "det", fitted / "test.csv", "--out", fitted / "s.csv", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["anomalies"]) == (240, sum(row["anomaly"] == "1" for row in scores(fitted / "s.csv")))


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_scores_do_not_depend_on_the_file_the_order_of_columns_or_the_size_of_blocks(
    fitted: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("score", fitted / "det", fitted / "test.csv", "--out", fitted / "one.csv")
    other = table(seed=1, truth=True)[["known", "c", "kind", "name", "b", "a"]]
    path = fitted / f"other.{ending}"
    WRITERS[ending](other, path)
    monkeypatch.setattr(sources, "BLOCK", 37)
    run("score", fitted / "det", path, "--out", fitted / "two.csv")
    one, two = scores(fitted / "one.csv"), scores(fitted / "two.csv")
    assert [row["row"] for row in two] == [str(n) for n in range(1, 241)]
    np.testing.assert_allclose([float(r["score"]) for r in one], [float(r["score"]) for r in two], atol=1e-12)
    assert [r["anomaly"] for r in one] == [r["anomaly"] for r in two]
    assert sum(int(r["anomaly"]) for r in one) > 5


def test_a_detector_read_again_scores_bit_for_bit_as_the_one_that_was_fitted(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "t.csv", index=False)
    block, preprocess, _ = sources.read_training(
        str(tmp_path / "t.csv"), "known", LabelWords(), request=Request(ignore=["name"])
    )
    detector = fit(block.rows, block.kinds, Settings(objective="deep-sad", epochs=2, members=2), seed=0)
    held = saved.SavedDetector(detector, preprocess, LabelWords(), block.rows[0], "t.csv", (1, 2, 3))
    held.write(tmp_path / "d")
    again = saved.SavedDetector.open(tmp_path / "d")
    assert torch.equal(again.detector.score(block.rows), detector.score(block.rows))
    assert again.detector.threshold == detector.threshold
    assert again.counts == (1, 2, 3)


def test_rows_may_be_named_and_no_name_is_a_formula(fitted: Path) -> None:
    run("score", fitted / "det", fitted / "test.csv", "--id", "name", "--out", fitted / "s.csv")
    assert scores(fitted / "s.csv")[0]["name"] == "'=row0"
    assert [harmless(text) for text in ("-1.5", "+x", "@a", "ok")] == ["-1.5", "'+x", "'@a", "ok"]


def test_evaluate_prints_and_writes_the_report(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("evaluate", fitted / "det", fitted / "test.csv", "--id", "name", "--out", fitted / "ev")
    shown = capsys.readouterr().out
    assert "20 anomalies among 240 rows" in shown
    assert "AUROC" in shown
    page = (fitted / "ev" / "report.html").read_text()
    assert "columns that contribute most" in page
    assert "a = " in page
    assert {path.name for path in (fitted / "ev" / "figures").iterdir()} == {
        "curves.png",
        "scores.png",
        "trade_off.png",
    }
    capsys.readouterr()
    run("evaluate", fitted / "det", fitted / "test.csv", "--json", "--out", fitted / "ev")
    found = json.loads(capsys.readouterr().out)
    assert found.pop("report") == str(fitted / "ev/report.html")
    assert found["auroc"]["value"] > 0.7
    assert found == {k: v for k, v in json.loads((fitted / "ev/evaluation.json").read_text()).items() if k != "source"}


def test_other_words_and_empty_cells(tmp_path: Path) -> None:
    frame = table()
    frame["known"] = frame["known"].map({1: "fraud", 0: None})
    frame.loc[1, "known"] = "fine"
    frame.to_csv(tmp_path / "t.csv", index=False)
    words = ("--anomaly", "fraud", "--normal", "fine")
    run("fit", tmp_path / "t.csv", "--labels", "known", "--ignore", "name", "--out", tmp_path / "d", *words, *FAST)
    assert json.loads((tmp_path / "d/detector.json").read_text())["counts"] == [232, 7, 1]


def test_images_lie_in_a_folder_for_each_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    for source in ("photos", "more"):
        for folder, number in {"anomaly": 6, "unlabelled": 30}.items():
            (tmp_path / source / folder).mkdir(parents=True)
            for i in range(number):
                pixels = draw.integers(0, 90, (12, 12), dtype=np.uint8)
                pixels[3:9, 3:9] += 120 * (folder == "anomaly")
                Image.fromarray(pixels).save(tmp_path / source / folder / f"{i}.png")
    words = ("--anomaly", "anomaly", "--unlabelled", "unlabelled", "--normal", "normal")
    run("fit", tmp_path / "photos", "--out", tmp_path / "d", *words, *FAST, "--epochs", "12")
    run("score", tmp_path / "d", tmp_path / "more" / "anomaly", "--out", tmp_path / "s.csv")
    assert len(scores(tmp_path / "s.csv")) == 6
    run("evaluate", tmp_path / "d", tmp_path / "more")
    assert "6 anomalies among 36 rows" in capsys.readouterr().out


def test_the_flags_are_the_settings_of_the_detector() -> None:
    words = "--lr 0.5 --epochs 3 --contamination 0.2 --scaling none --strict --objective-options margin=3 linear=no"
    chosen = {"margin": "3", "linear": "no"}
    expected = Settings(lr=0.5, epochs=3, contamination=0.2, scaling="none", strict=True, objective_options=chosen)
    assert parse(["anomaly fit", "t.csv", *words.split()]) == AnomalyFit("t.csv", settings=expected)
    assert parse(["anomaly fit", "t.csv"]) == AnomalyFit("t.csv", settings=Settings())


def test_own_options_of_objective_and_method_reach_the_detector(fitted: Path) -> None:
    own = ("--objective", "hsc", "--objective-options", "dimensions=8", "--method-options", "tail-weight=2")
    run("fit", fitted / "train.csv", "--labels", "known", "--ignore", "name", "--out", fitted / "o", *FAST, *own)
    settings = saved.SavedDetector.open(fitted / "o").detector.settings
    assert settings.objective_options == {"dimensions": 8}
    assert settings.method_options == {"tail_weight": 2.0}


BAD_FITS = {
    "no file": (["nowhere.csv", "--labels", "known"], "no such file"),
    "no labels": (["train.csv"], "which column holds the labels"),
    "another column": (["train.csv", "--labels", "knwn"], "there is no column 'knwn'"),
    "unknown label": (["train.csv", "--labels", "a"], "unknown labels"),
    "unknown ignore": (["train.csv", "--labels", "known", "--ignore", "nme"], "--ignore names nme"),
    "unknown objective": (["train.csv", "--labels", "known", "--objective", "hcs"], "no objective 'hcs'"),
    "share": (["train.csv", "--labels", "known", "--contamination", "many"], "parsing --contamination"),
    "option": (["train.csv", "--labels", "known", "--objective-options", "depth=2"], "there is no option 'depth'"),
    "no pair": (
        ["train.csv", "--labels", "known", "--objective-options", "margin"],
        "give NAME=VALUE, for example alpha=0.4",
    ),
    "range": (["train.csv", "--labels", "known", "--members", "0"], "members must be a whole number of at least 1"),
    "unknown method": (["train.csv", "--labels", "known", "--method", "adam"], "there is no method 'adam'"),
    "detector there": (["train.csv", "--labels", "known", "--out", "det"], "holds a detector already"),
    "strict": (["plain.csv", "--labels", "known", "--strict"], "no row is labelled as an anomaly"),
    "infinite": (["infinite.csv", "--labels", "known"], "is infinite"),
    "empty": (["empty.csv", "--labels", "known"], "is empty"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_of_fit_is_named_and_nothing_is_written(
    fitted: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fitted)
    table().assign(known=0).to_csv("plain.csv", index=False)
    table().replace({"a": {table()["a"].iloc[5]: np.inf}}).to_csv("infinite.csv", index=False)
    Path("empty.csv").write_text("")
    before = sorted(os.walk(fitted))
    words, message = BAD_FITS[case]
    run("fit", *words, code=2)
    assert message in capsys.readouterr().err
    assert sorted(os.walk(fitted)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="b"), "there is no column 'b', which training had"),
        (lambda f: f.assign(b="word"), "which is not a number"),
        (lambda f: f.drop(columns="name"), "there is no column 'name', the rows' names"),
    ],
)
def test_rows_that_do_not_fit_leave_the_old_scores_standing(
    fitted: Path, change: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (fitted / "s.csv").write_text("old")
    change(table()).to_csv(fitted / "bad.csv", index=False)
    run("score", fitted / "det", fitted / "bad.csv", "--id", "name", "--out", fitted / "s.csv", code=2)
    assert message in capsys.readouterr().err
    assert (fitted / "s.csv").read_text() == "old"
    assert not list(fitted.glob(".s.csv*"))


def test_what_is_no_detector_or_a_damaged_one_is_named(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("score", fitted, fitted / "test.csv", code=2)
    assert "holds no fitted detector" in capsys.readouterr().err
    weights = fitted / "det/detector.safetensors"
    tensors, about = unsealed_tensors(weights.read_bytes())
    weights.write_bytes(sealed_tensors({name: t for name, t in tensors.items() if name != "0.shift"}, about))
    run("score", fitted / "det", fitted / "test.csv", code=2)
    assert "is damaged (KeyError: '0.shift')" in capsys.readouterr().err


def test_an_evaluation_needs_labels_of_both_kinds(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().drop(columns="known").to_csv(fitted / "u.csv", index=False)
    run("evaluate", fitted / "det", fitted / "u.csv", code=2)
    assert "there is no column 'known', the labels" in capsys.readouterr().err
    table().assign(known=0).to_csv(fitted / "n.csv", index=False)
    run("evaluate", fitted / "det", fitted / "n.csv", code=2)
    assert "an evaluation needs both kinds" in capsys.readouterr().err


def test_the_scores_would_not_replace_their_rows(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("score", fitted / "det", fitted / "test.csv", "--out", fitted / "test.csv", code=2)
    assert "would replace the input data" in capsys.readouterr().err
