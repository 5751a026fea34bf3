"""A run in MLflow, in a real store."""

import pytest

from imbsam.errors import RunError
from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking.mlflow_run import AT_ONCE, MlflowRun, Store
from imbsam.runs.tracking.projection import Projection

pytest.importorskip("mlflow")

OUTCOME = [(2, {"c": 3.0})]


@pytest.fixture
def process(tmp_path, database):
    """What each process that tracks a folder makes."""

    def make(name: str = "run") -> MlflowRun:
        return MlflowRun(Store(database.uri, "digits", tmp_path / "files"), tmp_path / name, {"label": "sgd"})

    return make


def epochs(*steps, value=1.0):
    return Projection([(step, {"a": value * step, "b": 2.0}) for step in steps], [], {})


def everything(database):
    tables = ("runs", "metrics", "latest_metrics", "params", "tags")
    return {name: sorted(database.rows(f"select * from {name}"), key=str) for name in tables}


def test_it_is_gone_on_with_and_has_no_step_twice(process, database):
    first, again = process(), process()
    first.sync(epochs(1, 2))
    first.close(ValueError())
    assert database.runs() == {"run": "FAILED"}
    again.sync(epochs(1, 2, 3, value=10.0))
    assert again.id == first.id
    assert database.runs() == {"run": "RUNNING"}
    assert database.metrics("run") == {"a": [(1, 1.0), (2, 2.0), (3, 30.0)], "b": [(1, 2.0), (2, 2.0), (3, 2.0)]}


def test_called_again_by_the_same_process_or_another_nothing_changes(process, database):
    projection = Projection(epochs(1, 2).epochs, OUTCOME, {"result.json": "{}"})
    run = process()
    run.sync(projection)
    held = everything(database)
    run.sync(projection)
    run.close(None)
    process().sync(projection)
    assert everything(database) == held
    assert database.runs() == {"run": "FINISHED"}


def test_a_process_killed_between_two_requests_of_a_step_leaves_the_second_to_the_next(process, database):
    names = [f"recall/{c:05}" for c in range(AT_ONCE + 3)]
    process().sync(Projection([(1, dict.fromkeys(names[:AT_ONCE], 0.5))], [], {}))
    process().sync(Projection([(1, dict.fromkeys(names, 0.5))], [], {}))
    assert database.metrics("run") == {name: [(1, 0.5)] for name in names}


def test_a_process_killed_after_the_run_was_made_leaves_its_parameters_to_the_next(
    process, database, tmp_path, options
):
    RunFolder(tmp_path / "run").write_config("digits", options(lr=0.25))
    process().sync(epochs(1))
    database.execute("delete from params")
    process().sync(epochs(1))
    assert database.params("run")["lr"] == "0.25"


def test_a_number_that_is_none_is_kept_as_such(process, database):
    process().sync(Projection([(1, {"a": float("nan"), "b": float("inf")})], [], {}))
    assert database.rows("select key, is_nan from metrics order by key") == [("a", 1), ("b", 0)]


def test_two_folders_are_two_runs_of_one_experiment(process, database):
    process("one").sync(epochs(1))
    process("other").sync(epochs(1))
    assert set(database.runs()) == {"one", "other"}
    assert database.rows("select count(*) from experiments where name = 'digits'") == [(1,)]


def test_an_experiment_that_was_deleted_is_an_error(process):
    process()._client.delete_experiment("1")
    with pytest.raises(RunError, match=r"cannot be written: .*deleted"):
        process("other").sync(epochs(1))


def test_without_a_server_the_store_is_a_file_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    store = Store.of(tmp_path, "data/pets.csv")
    assert store.uri.startswith(f"sqlite:///{tmp_path}/mlflow.db")
    assert store.experiment == "mine"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert Store.of(tmp_path, "data/pets.csv").experiment == "pets.csv"
    assert Store.of(tmp_path / "compare-pets").experiment == "compare-pets"


def test_a_password_in_the_address_is_not_shown():
    assert Store("https://me:secret@host:5000/x", "e").shown == "https://host:5000/x"
    assert Store("https://host:5000", "e").shown == "https://host:5000"
