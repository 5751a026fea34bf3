"""The switch: which trackers a run writes to, all of them by one face."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from imbsam.config import Options, Track
from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.runs.tracking.events import Events
from imbsam.runs.tracking.group import Group, grouped
from imbsam.runs.tracking.mlflow_run import MARK, PARENT, MlflowRun, Store, check_installed
from imbsam.runs.tracking.scalars import of_epoch, of_result
from imbsam.storage.files import as_json

WRITTEN = ("report.html", "model-card.md", "comparison.json", "tune.json", "best.yaml")
"""Files that are written when the runs are finished."""


def chosen(track: Sequence[Track]) -> list[Track]:
    """The trackers by name; ``auto`` is TensorBoard where it is installed.

    Raises:
        OptionError: If one is not installed, or ``auto`` or ``none`` do not stand alone.
    """
    if {"auto", "none"} & set(track) and len(track) > 1:
        raise OptionError(f"--track takes auto or none alone, or trackers; got {' '.join(track)}.")
    installed = find_spec("tensorboard") is not None
    if tuple(track) == ("auto",):
        return ["tensorboard"] if installed else []
    names: list[Track] = [name for name in dict.fromkeys(track) if name != "none"]
    if "tensorboard" in names and not installed:
        raise OptionError("--track tensorboard needs the package tensorboard: pip install 'imbsam[tensorboard]'")
    if "mlflow" in names:
        check_installed()
    return names


def together(track: Sequence[Track], folder: Path, source: str, command: str) -> AbstractContextManager[Group | None]:
    """Track what the block makes as one comparison or study, where a tracker knows such a thing.

    Args:
        track: Which.
        folder: Of the comparison or the study.
        source: The data.
        command: What the user typed.

    Returns:
        A context manager that yields what the runs need to know, or ``None``.

    Raises:
        OptionError: If a tracker is not installed.
        RunError: If MLflow cannot be reached.
    """
    return grouped(folder, source, command) if "mlflow" in chosen(track) else nullcontext()


def keep_reports(track: Sequence[Track], store: Store, folders: Sequence[Path]) -> None:
    """Keep the reports and model cards that were written since in MLflow, too; a warning says where it is lost.

    Args:
        track: Which trackers were written to.
        store: Where in MLflow.
        folders: Of runs, comparisons, studies.
    """
    if "mlflow" not in track:
        return
    try:
        for folder in folders:
            run = MlflowRun(store, folder, folder.resolve().name)
            if (folder / MARK).exists() and run.find():
                run.keep([folder / name for name in WRITTEN])
    except RunError as error:
        warnings.warn(f"{error} The reports stay where they are.", RunWarning, stacklevel=2)


class Tracker:
    """Writes what comes out of a run to the trackers that were chosen.

    Args:
        track: Which.
        folder: The run's.
        source: The data.
        group: What the run is one of many of.

    Raises:
        OptionError: If one is not installed.
        RunError: If MLflow cannot be reached.
    """

    def __init__(self, track: Sequence[Track], folder: Path, source: str, group: Group | None = None) -> None:
        self._folder = folder
        names = chosen(track)
        self._with_events = "tensorboard" in names
        self._events: Events | None = None
        self._run: MlflowRun | None = None
        self._waiting: list[tuple[Mapping[str, float], int]] = []
        self._lost = False
        self._tags = {"source": source}
        if "mlflow" in names:
            store = Store.of_run(folder, source) if group is None else group.store
            self._run = MlflowRun(store, folder, folder.resolve().name)
            if group is not None:
                self._tags[PARENT] = group.run

    def begun(self, options: Options, label: str, earlier: Sequence[Mapping[str, object]]) -> "Tracker":
        """Begin, or go on where the run was interrupted.

        Args:
            options: Of the run.
            label: What reports call it.
            earlier: The lines of metrics of the epochs that are finished.

        Returns:
            Itself, a context manager.

        Raises:
            RunError: If a tracker cannot be written.
        """
        if self._with_events:
            self._events = Events(self._folder, earlier)
        if self._run is not None:
            training = options.training
            tags = {**self._tags, "label": label, "seed": str(training.seed), "folder": str(self._folder.resolve())}
            self._run.begin(tags, options.deciding())
            for record in earlier:
                self._to_mlflow(of_epoch(record), int(str(record["epoch"])))
        return self

    def __enter__(self) -> "Tracker":
        return self

    def write(self, record: Mapping[str, object]) -> None:
        """Write the numbers of an epoch's line of metrics.

        A run goes on without an MLflow that is lost on the way, with a warning; what it misses is written as soon as it
        is back.

        Raises:
            RunError: If TensorBoard's events cannot be written.
        """
        if self._events is not None:
            self._events.write(record)
        self._to_mlflow(of_epoch(record), int(str(record["epoch"])))

    def finish(self, result: Mapping[str, object]) -> None:
        """Write what a run has come to.

        Before ``result.json`` says that it is finished: killed in between, the next process does both again.

        Args:
            result: The content of ``result.json``.
        """
        self._to_mlflow(of_result(result), int(str(result["epochs"])))
        self._tell(lambda run: run.keep([self._folder / "config.yaml"]))
        self._tell(lambda run: run.keep_text("result.json", as_json(result)))
        self._tell(lambda run: run.end("FINISHED"))
        if self._waiting:
            told = f"MLflow lacks the last {len(self._waiting)} lines of metrics; {self._folder} has all."
            warnings.warn(told, RunWarning, stacklevel=2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close(error)
        if error is not None and self._run is not None:
            with suppress(RunError):
                self._run.end("FAILED" if isinstance(error, Exception) else "KILLED")

    def _to_mlflow(self, scalars: Mapping[str, float], step: int) -> None:
        self._waiting += [(scalars, step)] if self._run is not None else []
        self._tell(self._write_waiting)

    def _write_waiting(self, run: MlflowRun) -> None:
        while self._waiting:
            run.write(*self._waiting[0])
            del self._waiting[0]

    def _tell(self, what: Callable[[MlflowRun], None]) -> None:
        if self._run is None:
            return
        try:
            what(self._run)
        except RunError as error:
            if not self._lost:
                warnings.warn(f"{error} The run goes on; {self._folder} keeps its numbers.", RunWarning, stacklevel=3)
            self._lost = True
