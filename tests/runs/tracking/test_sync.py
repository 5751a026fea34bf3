"""One switch for every tracker."""

import sys
from importlib.util import find_spec

import pytest

from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.report import write_report
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking import Store, chosen, keep_reports, opened, sync

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_auto_is_tensorboard_where_it_is_installed(monkeypatch):
    assert chosen(("auto",)) == (["tensorboard"] if find_spec("tensorboard") else [])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert chosen(("auto",)) == []


def test_a_tracker_that_is_asked_for_and_not_installed_is_told_with_what_to_install(monkeypatch):
    for name, package in (("tensorboard", "tensorboard"), ("mlflow", "mlflow-skinny")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(OptionError, match=rf"needs the package {package}: pip install 'imbsam\[{name}\]'"):
            chosen((name,))


@pytest.mark.parametrize("track", [("auto", "mlflow"), ("none", "tensorboard")])
def test_auto_and_none_stand_alone(track):
    with pytest.raises(OptionError, match="takes auto or none alone"):
        chosen(track)


def test_with_none_nothing_is_written(tmp_path, train):
    train(tmp_path / "run", track="none")
    assert not (tmp_path / "run/tensorboard").exists()
    assert not (tmp_path / "run/mlflow.json").exists()


@pytest.mark.filterwarnings("ignore")
def test_both_trackers_show_the_numbers_of_the_log(tmp_path, train, database, scalars):
    result = train(tmp_path / "run", track=["tensorboard", "mlflow"])
    lines = RunFolder(tmp_path / "run").epochs()
    expected = [(line.epoch, line.validation.balanced) for line in lines]
    found = database.metrics("run")
    assert len(expected) == 2
    assert found["validation/balanced"] == expected
    shown = scalars(tmp_path / "run")
    assert [step for step, _ in shown["validation/balanced"]] == [1, 2]
    assert [value for _, value in shown["validation/balanced"]] == pytest.approx([value for _, value in expected])
    assert found["train/train_loss"] == [(line.epoch, line.train_loss) for line in lines]
    assert found["test/balanced"] == [(2, result.test.balanced)]
    assert found["test/recall/9"] == [(2, result.test.per_class[9])]
    assert set(shown) < set(found)


def test_a_run_of_mlflow_has_the_deciding_options_and_is_finished(tmp_path, train, database, options):
    train(tmp_path / "run", track="mlflow", rho=0.125)
    assert database.runs() == {"run": "FINISHED"}
    assert database.rows("select name from experiments where experiment_id > 0") == [("digits",)]
    params = database.params("run")
    assert params["rho"] == "0.125"
    assert params["hidden"] == "[128, 128]"
    assert set(params) == set(options().deciding())
    tags = database.tags("run")
    assert tags["label"] == "imbsam"
    assert tags["folder"] == str(tmp_path / "run")


def test_reports_and_model_card_are_kept_beside_it(tmp_path, train, database):
    train(tmp_path / "run", track="mlflow")
    write_report(tmp_path / "run")
    keep_reports(("mlflow",), Store.of(tmp_path / "run", "digits"), [tmp_path / "run"])
    ((place,),) = database.rows("select artifact_uri from runs")
    kept = {path.name: path.read_bytes() for path in RunFolder(tmp_path / place.removeprefix("file://")).path.iterdir()}
    assert set(kept) == {"config.yaml", "result.json", "report.html", "model-card.md"}
    for name, content in kept.items():
        assert content == (tmp_path / "run" / name).read_bytes()


def test_a_server_that_does_not_answer_is_named_before_anything_is_removed_or_trained(tmp_path, options, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    fit(folder, "digits", options(track="none"))
    held = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"MLflow at http://127.0.0.1:9 cannot be reached: .*\n?.*--track none"):
        fit(folder, "digits", options(track="mlflow"), overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()} == held


def test_a_store_that_is_lost_on_the_way_stops_no_run_and_gets_what_it_missed(tmp_path, options, database):
    def the_store_lacks_its_tables_for_a_while(record):
        if record.epoch == 1:
            database.execute("alter table metrics rename to gone")
        if record.epoch == 3:
            database.execute("alter table gone rename to metrics")

    chosen = options(track="mlflow", epochs=4)
    with pytest.warns(RunWarning, match="cannot be written") as told:
        fit(RunFolder(tmp_path / "run"), "digits", chosen, on_epoch=the_store_lacks_its_tables_for_a_while)
    assert len([each for each in told if issubclass(each.category, RunWarning)]) == 1
    assert [step for step, _ in database.metrics("run")["train/train_loss"]] == [1, 2, 3, 4]
    assert database.runs() == {"run": "FINISHED"}


def test_what_a_store_misses_at_the_end_is_told(tmp_path, options, database):
    with pytest.warns(RunWarning) as told:
        fit(
            RunFolder(tmp_path / "run"),
            "digits",
            options(track="mlflow"),
            on_epoch=lambda record: database.execute("drop table if exists metrics"),
        )
    assert "The run continues" in str(told[0].message)
    assert str(told[-1].message).endswith(f"It lacks the end of the run; {tmp_path / 'run'} has all of it.")
    assert RunFolder(tmp_path / "run").result.exists()


def test_a_run_that_fails_is_told_to_have_failed_and_one_that_is_interrupted_killed(tmp_path, options, database):
    for name, error in (("failed", ValueError), ("killed", KeyboardInterrupt)):

        def ends(record, error=error):
            raise error

        with pytest.raises(error):
            fit(RunFolder(tmp_path / name), "digits", options(track="mlflow"), on_epoch=ends)
    assert database.runs() == {"failed": "FAILED", "killed": "KILLED"}


def test_a_run_that_was_tracked_by_nobody_is_brought_to_a_tracker_as_a_whole_and_once(
    tmp_path, train, database, scalars
):
    train(tmp_path / "run", track="none")
    folder, store = RunFolder(tmp_path / "run"), Store.of(tmp_path / "run", "digits")
    for _ in range(2):
        with opened(("tensorboard", "mlflow"), folder.path, store, {}) as trackers:
            sync(folder, trackers)
        assert [step for step, _ in scalars(folder.path)["train/lr"]] == [1, 2]
        assert [step for step, _ in database.metrics("run")["train/lr"]] == [1, 2]
        assert len(list((folder.path / "tensorboard").iterdir())) == 1
    assert database.runs() == {"run": "FINISHED"}
    assert database.metrics("run")["test/balanced"] == [(2, folder.read_result().test.balanced)]
