"""What trackers were told, read by other means than they were told by: SQL, TensorBoard's own reader."""

import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from imbsam.runs.tracking.mlflow_run import MlflowRun, Store

Rows = list[tuple[object, ...]]


class Database:
    """MLflow's file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def rows(self, query: str) -> Rows:
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def execute(self, statement: str) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    def runs(self) -> dict[str, str]:
        """Status of each run by its name."""
        found = self.rows("select name, status from runs where lifecycle_stage = 'active'")
        assert len(dict(found)) == len(found)
        return dict(found)

    def tags(self, run: str) -> dict[str, str]:
        return dict(self.rows(f"select key, t.value from tags t join runs using (run_uuid) where name = '{run}'"))

    def params(self, run: str) -> dict[str, str]:
        return dict(self.rows(f"select key, p.value from params p join runs using (run_uuid) where name = '{run}'"))

    def metrics(self, run: str) -> dict[str, list[tuple[int, float]]]:
        found = defaultdict(list)
        query = "select key, step, value from metrics join runs using (run_uuid) where name = '%s' order by key, step"
        for key, step, value in self.rows(query % run):
            found[key].append((step, value))
        return dict(found)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A database with MLflow's tables: making them takes MLflow some seconds."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    path = folder / "mlflow.db"
    run = MlflowRun(Store(f"sqlite:///{path}", "Default"), folder, {})
    run._client._tracking_client.store._dispose_engine()
    return path


@pytest.fixture
def database(empty_store, tmp_path, monkeypatch) -> Database:
    """A store of its own, which the environment names; MLflow keeps files beside where the process is."""
    monkeypatch.chdir(tmp_path)
    made = Database(Path(shutil.copy(empty_store, tmp_path / "tracked.db")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made


@pytest.fixture
def scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(folder / "tensorboard"))
        found.Reload()
        return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}

    return read
