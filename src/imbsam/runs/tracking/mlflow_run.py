"""A run in MLflow: found again when it is resumed, with no step written twice."""

import logging
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from imbsam.errors import RunError, RunWarning
from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking.projection import Projection, Step
from imbsam.storage.files import read_json, write_json
from imbsam.storage.texts import readable

MARK = "mlflow.json"
"""File in the folder of what is tracked, by which its MLflow run is found."""
TAG = "imbsam.run"
AT_ONCE = 1000
"""Number of metrics that MLflow takes in one request."""
SETTINGS = {
    # A server that is gone must not hold training up.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of MLflow, unless the user has set them."""


@dataclass(frozen=True)
class Store:
    """Place where a run is tracked.

    Args:
        uri: URI of a tracking server or of a file, as MLflow takes it.
        experiment: Name of the experiment.
        artifacts: Folder for the files of its runs; None for that of the server.
        parent: MLflow run of the comparison or the study that it belongs to.
    """

    uri: str
    experiment: str
    artifacts: Path | None = None
    parent: str = ""

    @classmethod
    def of(cls, folder: Path, source: str | None = None) -> "Store":
        """Return the store in ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``, else a file in a folder.

        Args:
            folder: Folder of a single run, a comparison or a study.
            source: Data of a run, which name its experiment; a comparison or a study is an experiment itself.
        """
        root = folder.resolve()
        usual = root.name if source is None else Path(source).name or source
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or readable(usual)
        if uri := os.environ.get("MLFLOW_TRACKING_URI"):
            return cls(uri, name)
        return cls(f"sqlite:///{root / 'mlflow.db'}", name, root / "mlartifacts")

    @property
    def shown(self) -> str:
        """Address without a password."""
        parts = urlsplit(self.uri)
        return self.uri.replace(f"{parts.username}:{parts.password}@", "") if parts.password else self.uri


class MlflowRun:
    """MLflow run of a folder in a store.

    Args:
        store: Store of the run.
        folder: Folder of what is tracked, in which a mark identifies the run.
        tags: Tags of the run.

    Raises:
        RunError: If the store cannot be reached.
    """

    def __init__(self, store: Store, folder: Path, tags: Mapping[str, str]) -> None:
        self.store, self.id = store, ""
        self._folder, self._tags, self._warned = folder, tags, ""
        with self._asking("reached"):
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=store.uri)
            self._experiment = self._experiment_id()

    def sync(self, projection: Projection) -> None:
        """Write what the run lacks; the first call finds or makes the run. A store lost later causes a warning.

        Raises:
            RunError: If the run can neither be found nor made.
        """
        with self._forgiven("It lacks the end of the run" if projection.outcome else "The run continues"):
            if not self.id:
                self._begin(goes_on=not projection.outcome)
            with self._asking("written"):
                self._write([*projection.epochs, *projection.outcome])
                for name, text in projection.texts.items():
                    self._client.log_text(self.id, text, name)
                if projection.outcome:
                    self._end("FINISHED")

    def close(self, error: BaseException | None) -> None:
        """Record how the run ended: normally, by an error, or by a signal."""
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        if self.id:
            with self._forgiven("It lacks the end of the run"), self._asking("written"):
                self._end(status)

    def find(self) -> bool:
        """Find the run that the folder's mark identifies.

        Raises:
            RunError: If the store cannot be read.
        """
        self.id = self._found() if (self._folder / MARK).exists() else ""
        return bool(self.id)

    def _found(self) -> str:
        asked = f"tags.`{TAG}` = '{self._mark()}'"
        with self._asking("read"):
            found = self._client.search_runs([self._experiment], asked)
        return str(found[0].info.run_id) if found else ""

    def _mark(self) -> str:
        return str(read_json(self._folder / MARK).get("run"))

    def _begin(self, *, goes_on: bool) -> None:
        from mlflow.entities import Param, RunTag

        if not (self._folder / MARK).exists():
            # Before the run is made: killed in between, the next process finds no run of this mark, and makes it.
            write_json(self._folder / MARK, {"run": uuid.uuid4().hex})
        run, found = RunFolder(self._folder), self._found()
        params = run.read_config()[1].deciding() if run.exists() else {}
        parent = {"mlflow.parentRunId": self.store.parent} if self.store.parent else {}
        tags = {TAG: self._mark(), **parent, **self._tags, "folder": str(run.path.resolve())}
        tags = {name: readable(value) for name, value in tags.items()}
        with self._asking("written"):
            if not found:
                name = readable(run.path.resolve().name)
                found = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
            elif goes_on:
                self._client.update_run(found, status="RUNNING")
            self._client.log_batch(
                found,
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
        self.id = found

    def _write(self, steps: Sequence[Step]) -> None:
        from mlflow.entities import Metric

        @cache
        def held(name: str) -> set[int]:
            return {metric.step for metric in self._client.get_metric_history(self.id, name)}

        now = time.time_ns() // 1_000_000
        for step, scalars in steps:
            names = list(scalars)
            # Each request is written whole or not at all, so its first metric tells whether it was.
            for part in (names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)):
                if step not in held(part[0]):
                    self._client.log_batch(self.id, [Metric(name, scalars[name], now, step) for name in part])

    def _end(self, status: str) -> None:
        if self._client.get_run(self.id).info.status != status:
            self._client.set_terminated(self.id, status)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        name, artifacts = self.store.experiment, self.store.artifacts
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, None if artifacts is None else artifacts.as_uri()))
            except MlflowException:  # Another process may have been faster.
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(found.experiment_id)

    @contextmanager
    def _forgiven(self, told: str) -> Iterator[None]:
        """Warn of a store that was lost since the run was found, once for each thing."""
        try:
            yield
        except RunError as error:
            if not self.id:
                raise
            if told != self._warned:
                warnings.warn(f"{error} {told}; {self._folder} has all of it.", RunWarning, stacklevel=4)
            self._warned = told

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            with quiet():
                yield
        except Exception as error:  # Of SQLAlchemy, of requests, of MLflow, of a plugin.
            reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
            raise RunError(
                f"MLflow at {self.store.shown} cannot be {what}: {reason}. Start the server, correct "
                "MLFLOW_TRACKING_URI, or run without it: --track none."
            ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Import MLflow with short time-outs, and without its messages on itself and on the packages that it uses."""
    unset = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    levels = {logger: logger.level for logger in map(logging.getLogger, ("mlflow", "alembic"))}
    os.environ.update(unset)
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for name in unset:
            os.environ.pop(name, None)
