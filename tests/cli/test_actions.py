import csv
import json
import re
import shutil
from importlib.metadata import version

import pytest

from imbsam.report.files import read_run, read_study
from tiny_data import image_folder, table


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_training_leaves_a_run_with_a_report(imbsam, quick):
    ran = imbsam("train", "digits", *quick)
    assert ran.code == 0
    folder = next(iter((read := read_run_folder()).values()))
    assert list(read) == ["digits-seed0"]
    assert ran.out.rstrip().endswith("report: runs/digits-seed0/report.html")
    assert "imbsam on digits, test data, epoch" in ran.out
    assert [line.split()[0] for line in ran.err.splitlines()] == ["note:", "note:", "note:", "epoch", "epoch"]
    assert ran.err.splitlines()[3].startswith("epoch 1/2  loss ")
    assert any(line.startswith("note: exponential long tail") for line in ran.err.splitlines())
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert list((folder / "figures").glob("*.png"))
    assert len(read_run(folder).epochs) == 2


def read_run_folder():
    from pathlib import Path

    return {path.name: path for path in sorted(Path("runs").iterdir())}


def test_a_default_folder_never_holds_two_runs_and_quiet_prints_the_result_alone(imbsam, quick, run, tmp_path):
    (tmp_path / "runs").mkdir()
    shutil.copytree(run, tmp_path / "runs" / "digits-sgd-seed4")
    before = contents(tmp_path / "runs")
    ran = imbsam("train", "digits", *quick, "--method", "sgd", "--seed", 4, "--quiet")
    assert "report: runs/digits-sgd-seed4-2/report.html" in ran.out
    assert (ran.code, ran.err) == (0, "")
    assert {path: state for path, state in contents(tmp_path / "runs").items() if path in before} == before


def test_overwriting_begins_anew_and_leaves_other_files_alone(imbsam, quick, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert imbsam("train", "digits", *quick, "--seed", 9, "--out", "run", "--overwrite", "--quiet").code == 0
    assert read_run(tmp_path / "run").result.seed == 9
    assert len(read_run(tmp_path / "run").epochs) == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_runs_own_config_reproduces_it_bit_for_bit(imbsam, run, tmp_path):
    assert imbsam("train", "--config", run / "config.yaml", "--out", "again", "--quiet").code == 0
    for name in ("best.safetensors", "config.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, tmp_path / "again")]
    assert results[0]["test"] == results[1]["test"]


def test_a_folder_of_images_goes_the_whole_road(imbsam, quick, pets, tmp_path):
    small = ("--width", 0.25, "--batch-size", 16, "--method", "imbsam")
    assert imbsam("train", pets, *quick, *small, "--out", "run", "--quiet").code == 0
    scored = imbsam("evaluate", "run", image_folder(tmp_path / "more", {"cat": 3, "eel": 2}, seed=4), "--json")
    assert json.loads(scored.out)["samples"] == 5
    new = tmp_path / "more" / "cat"
    predicted = imbsam("predict", "run", new, "--all-probabilities", "--out", "p.csv")
    assert predicted.out.startswith("3 predictions: p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [str(path) for path in sorted(new.iterdir())]
    assert all(sum(float(row[name]) for name in ("cat", "dog", "eel")) == pytest.approx(1, abs=1e-4) for row in rows)


def test_a_table_goes_the_whole_road(imbsam, quick, parts_csv, tmp_path):
    chosen = ("--target", "kind", "--ignore", "height", "--tail", "classes=broken")
    assert imbsam("train", parts_csv, *quick, *chosen, "--out", "run", "--quiet").code == 0
    assert read_run(tmp_path / "run").result.tail == (True, False, False)
    scored = imbsam("evaluate", "run", table(tmp_path / "more.csv", rows=40, seed=3), "--json")
    assert json.loads(scored.out)["samples"] == 40
    table(tmp_path / "new.csv", rows=12, target=False)
    assert imbsam("predict", "run", "new.csv").out.startswith("12 predictions: predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert list(next(csv.DictReader(file))) == ["name", "class", "probability"]


def test_evaluating_shows_scores_and_every_class_rarest_first(imbsam, run):
    ran = imbsam("evaluate", run)
    result = json.loads((run / "result.json").read_text())
    assert (ran.code, ran.err) == (0, "")
    assert f"{100 * result['test']['overall']:.1f}" in ran.out
    table = ran.out.partition("rarest first")[2]
    rows = [line.split() for line in table.splitlines() if line.strip() and line.split()[0] in result["classes"]]
    counts = [int(row[1]) for row in rows]
    assert counts == sorted(result["counts"])
    assert [row[3] for row in rows] == [f"{100 * result['test']['per_class'][int(row[0])]:.1f}" for row in rows]


def test_evaluating_as_json_prints_json_alone(imbsam, run):
    ran = imbsam("evaluate", run, "--json")
    assert json.loads(ran.out) == {**json.loads((run / "result.json").read_text())["test"], "prices": [], "tta": "none"}
    assert ran.err == ""


@pytest.mark.filterwarnings("default")
def test_a_warning_is_a_sentence_without_a_place_in_the_code(imbsam, quick, parts_csv):
    imbsam("train", parts_csv, *quick, "--target", "kind", "--out", "run", "--quiet")
    ran = imbsam("predict", "run", parts_csv)
    assert ran.code == 0
    (line,) = ran.err.splitlines()
    assert line.startswith("warning: ")
    assert "these are the data that the model was trained on" in line
    assert ".py" not in line


def test_a_report_is_written_anew(imbsam, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    ran = imbsam("report", "run")
    assert (ran.code, ran.out, ran.err) == (0, "report: run/report.html\n", "")
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A finished comparison, what it printed, and the words typed."""
    import contextlib
    import io

    from imbsam.cli import main

    folder = tmp_path_factory.mktemp("comparisons") / "digits"
    words = ["compare", "digits", "--methods", "sgd", "imbsam:rho=0.1", "--seeds", "2", "--epochs", "2", "--jobs", "1"]
    words += ["--threads", "1", "--track", "none", "--out", str(folder)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    return folder, words, out.getvalue(), err.getvalue()


def test_a_comparison_tells_methods_intervals_and_an_answer(comparison):
    folder, words, out, err = comparison
    assert "digits: test data, mean ± 95 % interval over 2 seeds" in out
    rows = {line.split()[0]: line for line in out.splitlines() if "±" in line and "mean" not in line}
    assert set(rows) == {"sgd", "imbsam:rho=0.1"}
    assert "few-shot recall: imbsam:rho=0.1" in out
    assert out.rstrip().endswith(f"report: {folder}/report.html")
    assert err.splitlines() == [
        f"{n} of 4 runs: {name} done"
        for n, name in enumerate(["imbsam-rho=0.1-seed0", "sgd-seed0", "imbsam-rho=0.1-seed1", "sgd-seed1"], start=1)
    ]
    study = read_study(folder)
    assert study.labels == ("sgd", "imbsam:rho=0.1")
    assert study.command == "imbsam " + " ".join(words)


def test_the_same_comparison_again_runs_nothing_and_says_the_same(comparison, imbsam):
    folder, words, out, _ = comparison
    before = contents(folder / "runs")
    ran = imbsam(*words)
    assert (ran.code, ran.out) == (0, out)
    assert contents(folder / "runs") == before


def test_a_comparison_with_another_option_is_refused_and_kept(comparison, fails):
    folder, words, _, _ = comparison
    before = contents(folder)
    assert "holds a run with another lr. Choose another --out" in fails(*words, "--lr", "0.5", "--quiet")
    assert contents(folder) == before


def test_a_failing_variant_is_named_and_the_others_are_compared(imbsam, quick, tmp_path):
    words = ("--methods", "sgd", "sam:lr=1e30", "--seeds", 1, "--jobs", 1, "--out", "c", "--quiet")
    ran = imbsam("compare", "digits", *quick, *words)
    assert ran.code == 1
    assert "report: c/report.html" in ran.out
    assert ran.err.startswith("imbsam: sam-lr=1e30-seed0 failed: epoch 1: ")
    assert read_study(tmp_path / "c").missing == ("runs/sam-lr=1e30-seed0",)


def test_when_every_variant_fails_the_first_reason_is_told(fails, quick):
    words = ("--methods", "sgd:lr=1e30", "--seeds", 1, "--jobs", 1, "--out", "c", "--quiet")
    assert fails("compare", "digits", *quick, *words).startswith("every run failed, the first with: epoch 1: ")


def test_export_writes_the_model_and_how_to_feed_it(imbsam, run, tmp_path):
    ran = imbsam("export", run, "--out", tmp_path / "model.pt2")
    assert ran.code == 0
    assert re.search(
        r"model\.pt2: probabilities as the run's, to \S+; model\.pt2\.json describes inputs and outputs", ran.out
    )
    assert json.loads((tmp_path / "model.pt2.json").read_text())["classes"] == [str(digit) for digit in range(10)]


def test_export_refuses_another_suffix(fails, run):
    assert "--out model.pth: the suffix must be .onnx or .pt2" in fails("export", run, "--out", "model.pth")


@pytest.mark.slow
def test_every_command_answers_in_json(imbsam, run, tmp_path, quick):
    """One mechanism for all; what needs more preparation is in the tests of its own."""
    trained = json.loads(imbsam("train", "digits", *quick, "--out", "t", "--json").out)
    assert {k: v for k, v in trained.items() if k not in ("folder", "report")} == json.loads(
        (tmp_path / "t/result.json").read_text()
    )
    assert trained["report"] == "t/report.html"
    compared = json.loads(
        imbsam("compare", "digits", "--methods", "sgd", "imbsam", "--seeds", 2, "--jobs", 1, *quick, "--json").out
    )
    assert compared["scores"]["sgd"]["overall"]["n"] == 2
    assert compared["differences"]["imbsam"]["few"]["half_width"] > 0
    assert compared["costs"]["sgd"] == 1
    assert compared["answer"][0].startswith("few-shot recall: imbsam")
    assert compared["failed"] == {}
    predicted = json.loads(imbsam("predict", run, "digits", "--json").out)
    assert predicted["predictions"] == sum(each["predicted"] for each in predicted["classes"]) == 539
    exported = json.loads(imbsam("export", run, "--out", "m.pt2", "--json").out)
    assert exported["difference"] < 1e-4
    assert json.loads(imbsam("report", "t", "--json").out) == {"report": "t/report.html"}
    named = {method["name"]: method for method in json.loads(imbsam("methods", "--json").out)}
    assert named["imbsam"]["options"]["rho"] == 0.05
    assert (named["imbsam"]["family"], named["msam"]["passes"]) == ("class-aware", "one pass")
    assert "memorised" in named["imbsam"]["take"]
    assert json.loads(imbsam("doctor", "--json").out)["packages"]["torch"] == version("torch")
    waits = "perturbed only once the tail's training recall reaches --sharp-recall"
    assert waits in " ".join(imbsam("cost", "digits", "--methods", "imbsam", "--sharp-recall", "0.9").out.split())
    assert waits not in " ".join(imbsam("cost", "digits", "--methods", "imbsam").out.split())
    costs = json.loads(imbsam("cost", "digits", "--methods", "sgd", "sam", "--json").out)
    assert costs["sam"]["ratio"] == 2


def test_a_failed_run_of_a_comparison_is_in_the_json_and_in_the_exit_code(imbsam, quick):
    ran = imbsam("compare", "digits", "--methods", "sgd", "sgd:lr=1e30", "--seeds", 1, "--jobs", 1, *quick, "--json")
    assert ran.code == 1
    (failed,) = json.loads(ran.out)["failed"].values()
    assert "NaN" in failed or "infinite" in failed or "not finite" in failed


def test_outputs_over_mirrors_are_said(imbsam, run):
    said = "Outputs are the mean over each image and its mirror (--tta flip)."
    assert said in imbsam("evaluate", run, "--tta", "flip").out
    assert said not in imbsam("evaluate", run).out
    assert said in imbsam("predict", run, "digits", "--out", "p.csv", "--tta", "flip").out
    for words in (("evaluate", run), ("predict", run, "digits", "--out", "p.csv")):
        assert json.loads(imbsam(*words, "--json").out)["tta"] == "none"
        assert json.loads(imbsam(*words, "--json", "--tta", "flip").out)["tta"] == "flip"
    assert imbsam("train", "digits", "--tta", "flip").code == 2


def test_a_table_has_no_mirror(imbsam, fails, parts_csv, quick):
    assert imbsam("train", parts_csv, "--target", "kind", "--method", "sgd", *quick, "--out", "t", "--quiet").code == 0
    assert fails("evaluate", "t", "--tta", "flip").startswith("--tta flip is for images, but the run is of a table")
