"""A run in MLflow: found again when it is resumed, and no step in it twice."""

import logging
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imbsam.errors import OptionError, RunError
from imbsam.storage.files import read_json, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

MARK = "mlflow.json"
"""In the folder of what is tracked: what its MLflow run is found by."""

AT_ONCE = 1000
"""Metrics that MLflow takes in one request."""

TAG = "imbsam.run"
PARENT = "mlflow.parentRunId"

SETTINGS = {
    # A server that is gone must not hold training up.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Of MLflow, unless the user has set them."""


@dataclass(frozen=True)
class Store:
    """An experiment of a tracking server or of a file.

    Args:
        uri: As MLflow takes it.
        experiment: Its name.
        artifacts: Folder for the files of its runs; None: where the server keeps them.
    """

    uri: str
    experiment: str
    artifacts: Path | None = None

    @classmethod
    def usual(cls, root: Path, experiment: str) -> "Store":
        """What ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say, else a file in a folder."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri:
            return cls(uri, name)
        root = root.resolve()
        return cls(f"sqlite:///{root / 'mlflow.db'}", name, root / "mlartifacts")

    @classmethod
    def of_run(cls, folder: Path, source: str) -> "Store":
        """Where a run of its own is tracked: the experiment is the data."""
        return cls.usual(folder, Path(source).name or source)

    @classmethod
    def of_group(cls, folder: Path) -> "Store":
        """Where the runs of a comparison or a study are tracked: it is the experiment."""
        return cls.usual(folder, folder.resolve().name)

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.uri)
        return self.uri.replace(f"{parts.username}:{parts.password}@", "") if parts.password else self.uri


def check_installed() -> None:
    """See that there is an MLflow.

    Raises:
        OptionError: If not.
    """
    with quiet():
        try:
            import mlflow  # noqa: F401
        except ImportError:
            raise OptionError("--track mlflow needs the package mlflow-skinny: pip install 'imbsam[mlflow]'") from None


class MlflowRun:
    """One run of a store.

    Args:
        store: Where.
        folder: Of what is tracked; its mark tells the run again.
        name: As shown.

    Raises:
        RunError: If the store cannot be reached.
    """

    def __init__(self, store: Store, folder: Path, name: str) -> None:
        self.store = store
        self._folder = folder
        self._name = name
        self._steps: dict[str, set[int]] = {}
        self.id = ""
        with quiet(), self._told("reached"):
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=store.uri)
            self._experiment = _experiment_of(self._client, store)

    def begin(self, tags: Mapping[str, str], params: Mapping[str, object]) -> None:
        """Go on with the run that the folder's mark tells, or make it.

        Args:
            tags: Shown beside it.
            params: What it was made with.

        Raises:
            RunError: If the store or the mark cannot be written.
        """
        mark = self._mark()
        from mlflow.entities import Param, RunTag

        if self.find():
            with quiet(), self._told("written"):
                self._client.update_run(self.id, status="RUNNING")
        with quiet(), self._told("written"):
            if not self.id:
                made = self._client.create_run(self._experiment, tags={**tags, TAG: mark}, run_name=self._name)
                self.id = made.info.run_id
            self._client.log_batch(
                self.id,
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )

    def find(self) -> bool:
        """Look for the run that the folder's mark tells.

        Raises:
            RunError: If the store cannot be read.
        """
        with quiet(), self._told("read"):
            found = self._client.search_runs([self._experiment], f"tags.`{TAG}` = '{self._mark()}'")
        self.id = found[0].info.run_id if found else ""
        return bool(found)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the numbers of a step, unless the run has them.

        Args:
            scalars: By name, the same names in the same order at every step.
            step: Which.

        Raises:
            RunError: If the store cannot be written.
        """
        from mlflow.entities import Metric

        now, left = time.time_ns() // 1_000_000, iter(scalars.items())
        with quiet(), self._told("written"):
            # Each request is written whole or not at all, so its first metric tells whether it was.
            while part := [Metric(name, value, now, step) for name, value in islice(left, AT_ONCE)]:
                held = self._held(part[0].key)
                if step not in held:
                    self._client.log_batch(self.id, metrics=part)
                    held.add(step)

    def _held(self, name: str) -> set[int]:
        if name not in self._steps:
            self._steps[name] = {metric.step for metric in self._client.get_metric_history(self.id, name)}
        return self._steps[name]

    def keep(self, files: Sequence[Path]) -> None:
        """Keep copies of files, those that are there.

        Raises:
            RunError: If the store cannot be written.
        """
        with quiet(), self._told("written"):
            for path in files:
                if path.is_file():
                    self._client.log_artifact(self.id, str(path))

    def keep_text(self, name: str, text: str) -> None:
        """Keep a file of this name with a text.

        Raises:
            RunError: If the store cannot be written.
        """
        with quiet(), self._told("written"):
            self._client.log_text(self.id, text, name)

    def end(self, status: str) -> None:
        """Say how the run ended: ``FINISHED``, ``FAILED`` or ``KILLED``.

        Raises:
            RunError: If the store cannot be written.
        """
        with quiet(), self._told("written"):
            self._client.set_terminated(self.id, status)

    def _mark(self) -> str:
        path = self._folder / MARK
        if path.exists():
            return str(read_json(path).get("run"))
        # Written before the run is made: killed in between, the next process finds no run of this mark, and makes it.
        mark = uuid.uuid4().hex
        write_json(path, {"run": mark})
        return mark

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except RunError:
            raise
        except Exception as error:  # Of SQLAlchemy, of requests, of MLflow, of a plugin.
            reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
            raise RunError(
                f"MLflow at {self.store.shown} cannot be {what}: {reason}. Start the server, mend "
                "MLFLOW_TRACKING_URI, or do without it: --track none."
            ) from None


def _experiment_of(client: "MlflowClient", store: Store) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(store.experiment)
    if found is None:
        try:
            place = None if store.artifacts is None else store.artifacts.as_uri()
            return client.create_experiment(store.experiment, artifact_location=place)
        except MlflowException:  # Another process may have been faster.
            found = client.get_experiment_by_name(store.experiment)
            if found is None:
                raise
    return str(found.experiment_id)


@contextmanager
def quiet() -> Iterator[None]:
    """MLflow with short time-outs, and without its remarks on itself and on the packages that it uses."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update({name: value for name, value in SETTINGS.items() if before[name] is None})
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
