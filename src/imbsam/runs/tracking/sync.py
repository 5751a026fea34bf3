"""Updating trackers to the state of a folder: the folder decides, and nothing is written twice."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from imbsam.config import Track
from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import Result
from imbsam.runs.tracking.events import Events
from imbsam.runs.tracking.mlflow_run import MlflowRun, Store
from imbsam.runs.tracking.projection import Projection
from imbsam.storage.texts import readable

Tracker = Events | MlflowRun
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}


def chosen(track: Sequence[Track]) -> list[Track]:
    """Return the trackers by name; ``auto`` is TensorBoard if it is installed.

    Raises:
        OptionError: If a tracker is not installed, or ``auto`` or ``none`` is combined with another.
    """
    if {"auto", "none"} & set(track) and len(track) > 1:
        raise OptionError(f"--track takes auto or none alone, or trackers; got {' '.join(track)}.")
    if tuple(track) == ("auto",):
        return ["tensorboard"] if find_spec("tensorboard") else []
    names: list[Track] = [name for name in dict.fromkeys(track) if name != "none"]
    for name in names:
        if not find_spec(name):
            raise OptionError(f"--track {name} needs the package {PACKAGES[name]}: pip install 'imbsam[{name}]'")
    return names


def sync(folder: RunFolder, trackers: Sequence[Tracker], result: Result | None = None) -> None:
    """Update trackers to the state of a folder, whatever they contain already.

    If MLflow is lost during a run, the run continues with a warning; a later call writes what is missing.

    Args:
        folder: Folder of a run, a comparison or a study.
        trackers: Its trackers, from :func:`opened`.
        result: Content that ``result.json`` is about to get. It is tracked before the file is written: if the process
            is killed in between, the run can be resumed, and the next process does both.

    Raises:
        RunError: If TensorBoard's events cannot be written, or MLflow is lost before it has the run.
    """
    if trackers:
        projection = Projection.of(folder, result)
        for tracker in trackers:
            tracker.sync(projection)


@contextmanager
def opened(track: Sequence[Track], folder: Path, store: Store, tags: Mapping[str, str]) -> Iterator[list[Tracker]]:
    """Open the trackers of a folder; the end of the block decides how the run in MLflow ends.

    Args:
        track: Names of the trackers.
        folder: Folder of the run, the comparison or the study.
        store: Place in MLflow.
        tags: Tags of the run in MLflow.

    Raises:
        OptionError: If a tracker is not installed.
        RunError: If MLflow cannot be reached.
    """
    names, trackers = chosen(track), list[Tracker]()
    if "tensorboard" in names:
        trackers += _events(track, folder)
    if "mlflow" in names:
        if readable(store.uri) != store.uri:
            raise OptionError(_not_text("MLflow", store.uri))
        trackers.append(MlflowRun(store, folder, tags))
    try:
        yield trackers
    except BaseException as error:
        for tracker in trackers:
            tracker.close(error)
        raise
    for tracker in trackers:
        tracker.close(None)


def _events(track: Sequence[Track], folder: Path) -> list[Events]:
    if readable(str(folder)) == str(folder):
        return [Events(folder)]
    told = _not_text("TensorBoard", str(folder))
    if tuple(track) != ("auto",):
        raise OptionError(told)
    warnings.warn(f"{told} Nothing is written for it.", RunWarning, stacklevel=3)
    return []


def _not_text(tracker: str, place: str) -> str:
    return (
        f"{tracker} takes no folder whose name is not UTF-8: {readable(place)}. Choose another --out, or run "
        "without it: --track none."
    )


@contextmanager
def together(track: Sequence[Track], folder: Path, source: str, command: str) -> Iterator[Store | None]:
    """Track what the block makes as one comparison or study, if a tracker supports that.

    Args:
        track: Names of the trackers.
        folder: Folder of the comparison or the study.
        source: The data.
        command: Command that the user typed.

    Yields:
        Place where its runs are tracked, in any process that makes them, or ``None``.

    Raises:
        OptionError: If a tracker is not installed.
        RunError: If MLflow cannot be reached.
    """
    if "mlflow" not in chosen(track):
        yield None
        return
    with opened(["mlflow"], folder, Store.of(folder), {"source": source, "command": command}) as trackers:
        sync(RunFolder(folder), trackers)
        ((run),) = (tracker for tracker in trackers if isinstance(tracker, MlflowRun))
        yield replace(run.store, parent=run.id)


def keep_reports(track: Sequence[Track], store: Store, folders: Sequence[Path]) -> None:
    """Update MLflow to the folders after reports are written; a lost MLflow causes a warning.

    Args:
        track: Names of the trackers that were written to.
        store: Place in MLflow.
        folders: Folders of runs, comparisons, studies; those that MLflow does not know are left out.
    """
    try:
        for folder in folders if "mlflow" in track else ():
            run = MlflowRun(store, folder, {})
            if run.find():
                sync(RunFolder(folder), [run])
    except RunError as error:
        warnings.warn(f"{error} The reports themselves are written.", RunWarning, stacklevel=2)
