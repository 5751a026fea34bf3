"""A run in MLflow, in a real store."""

import pytest

from imbsam.errors import RunError
from imbsam.runs.tracking.mlflow_run import AT_ONCE, MlflowRun, Store

pytest.importorskip("mlflow")


@pytest.fixture
def begun(tmp_path, database):
    def make(name: str = "run") -> MlflowRun:
        run = MlflowRun(Store(database.uri, "digits", tmp_path / "files"), tmp_path / name, name)
        run.begin({"label": "sgd"}, {"lr": 0.1})
        return run

    return make


def test_it_is_gone_on_with_and_has_no_step_twice(begun, database):
    first = begun()
    for step in (1, 2):
        first.write({"a": 1.0 * step, "b": 2.0}, step)
    again = begun()
    for step in (1, 2, 3):
        again.write({"a": 10.0 * step, "b": 2.0}, step)
    assert again.id == first.id
    assert database.runs() == {"run": "RUNNING"}
    assert database.metrics("run") == {"a": [(1, 1.0), (2, 2.0), (3, 30.0)], "b": [(1, 2.0), (2, 2.0), (3, 2.0)]}


def test_a_process_killed_between_two_requests_of_a_step_leaves_the_second_to_the_next(begun, database):
    names = [f"recall/{c:05}" for c in range(AT_ONCE + 3)]
    first = begun()
    first.write(dict.fromkeys(names[:AT_ONCE], 0.5), 1)
    begun().write(dict.fromkeys(names, 0.5), 1)
    assert database.metrics("run") == {name: [(1, 0.5)] for name in names}


def test_a_number_that_is_none_is_kept_as_such(begun, database):
    begun().write({"a": float("nan"), "b": float("inf")}, 1)
    assert database.rows("select key, is_nan from metrics order by key") == [("a", 1), ("b", 0)]


def test_two_folders_are_two_runs_of_one_experiment(begun, database):
    begun("one")
    begun("other")
    assert set(database.runs()) == {"one", "other"}
    assert database.rows("select count(*) from experiments where name = 'digits'") == [(1,)]


def test_an_experiment_that_was_deleted_is_an_error(begun, database, tmp_path):
    begun()._client.delete_experiment("1")
    with pytest.raises(RunError, match=r"cannot be written: .*deleted"):
        begun("other")
