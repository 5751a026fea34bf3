"""Comparisons and studies in MLflow: one run for the whole, and each of theirs under it by its label."""

import json
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from imbsam.cli import main
from imbsam.errors import OptionError, RunError
from imbsam.runs.folder import RunFolder
from imbsam.studies.compare import Variant, compare, plan_runs
from imbsam.studies.tune import Range, Search, tune
from imbsam.studies.workers import Workers

pytest.importorskip("mlflow")


def compared(folder, options, methods=("sgd", "imbsam:rho=0.1"), jobs=1):
    runs = plan_runs(folder, options, [Variant.parse(label) for label in methods], [0])
    return list(compare(folder, "digits", runs, workers=Workers(jobs), command="imbsam compare digits"))


@pytest.mark.slow
def test_the_runs_of_a_comparison_lie_under_it_by_their_labels(tmp_path, options, database):
    outcomes = compared(tmp_path / "c", options(track="mlflow"), jobs=2)
    get_reusable_executor().shutdown()
    assert [outcome.error for outcome in outcomes] == [None, None]
    names = [outcome.run.folder.name for outcome in outcomes]
    assert database.runs() == dict.fromkeys(["c", *names], "FINISHED")
    assert database.rows("select name from experiments where experiment_id > 0") == [("c",)]
    ((whole,),) = database.rows("select run_uuid from runs where name = 'c'")
    assert {database.tags(name)["mlflow.parentRunId"] for name in names} == {whole}
    assert {database.tags(name)["label"] for name in names} == {"sgd", "imbsam:rho=0.1"}
    assert database.tags("c")["command"] == "imbsam compare digits"
    for outcome in outcomes:
        result = RunFolder(outcome.run.folder).read_result()
        assert database.metrics(outcome.run.folder.name)["test/balanced"] == [(2, result.test.balanced)]


def test_the_same_comparison_again_goes_on_in_the_same_runs(tmp_path, options, database):
    compared(tmp_path / "c", options(track="mlflow"))
    held = {name: database.metrics(name) for name in database.runs()}
    folder = RunFolder(tmp_path / "c/runs/sgd-seed0")
    folder.result.unlink()
    compared(tmp_path / "c", options(track="mlflow"), ("sgd", "imbsam:rho=0.1", "sam"))
    assert set(database.runs()) - set(held) == {"sam-seed0"}
    assert {name: database.metrics(name) for name in held} == held


def test_trials_lie_under_their_study(tmp_path, options, database):
    search = Search([Range.parse("lr=0.05:0.2")], trials=2)
    tried = list(tune(tmp_path / "t", "digits", options(track="mlflow"), search, workers=Workers(1)))
    assert set(database.runs()) == {"t", "trial0000-seed0", "trial0001-seed0"}
    for each in tried:
        assert float(database.params(f"trial{each.number:04}-seed0")["lr"]) == each.values["lr"]


@pytest.mark.parametrize("made", [compared, lambda folder, options: list(study(folder, options))])
def test_a_server_that_does_not_answer_is_named_before_any_run(tmp_path, options, monkeypatch, made):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"MLflow at http://127.0.0.1:9 cannot be reached"):
        made(tmp_path / "c", options(track="mlflow"))
    assert not (tmp_path / "c/runs").exists()


def study(folder, options):
    return tune(folder, "digits", options, Search([Range.parse("lr")], trials=1), workers=Workers(1))


@pytest.mark.parametrize("made", [compared, lambda folder, options: list(study(folder, options))])
def test_a_missing_package_is_named_before_any_run(tmp_path, options, monkeypatch, made):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(OptionError, match=r"pip install 'imbsam\[mlflow\]'"):
        made(tmp_path / "c", options(track="mlflow"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("train digits --out w", {"w": {"config.yaml", "result.json", "report.html", "model-card.md"}}),
        (
            "compare digits --methods sgd --seeds 1 --jobs 1 --out w",
            {
                "w": {"comparison.json", "report.html"},
                "sgd-seed0": {"config.yaml", "result.json", "model-card.md"},
            },
        ),
        ("tune digits --search lr --trials 1 --jobs 1 --out w", {"w": {"tune.json", "best.yaml"}}),
    ],
    ids=["train", "compare", "tune"],
)
def test_each_command_keeps_its_reports(database, words, files, capsys):
    quick = "--epochs 1 --threads 1 --quiet --json --track mlflow"
    with pytest.raises(SystemExit, match="0"):
        main([*words.split(), *quick.split()])
    assert json.loads(capsys.readouterr().out)
    for name, kept in files.items():
        ((place,),) = database.rows(f"select artifact_uri from runs where name = '{name}'")
        assert {path.name for path in Path(place.removeprefix("file://")).iterdir()} == kept


def test_a_run_whose_configuration_has_the_old_switch_is_told_of_it(tmp_path, capsys):
    (tmp_path / "old.yaml").write_text("tensorboard: true\n")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--config", str(tmp_path / "old.yaml"), "--out", str(tmp_path / "run")])
    assert "there is no option tensorboard" in capsys.readouterr().err
