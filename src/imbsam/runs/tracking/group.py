"""Runs that belong together: a comparison or a study is a run of its own in MLflow, and theirs lie under it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imbsam.errors import RunError, RunWarning
from imbsam.runs.tracking.mlflow_run import MlflowRun, Store


@dataclass(frozen=True)
class Group:
    """What the runs of a comparison or a study are told of where they are tracked, in whatever process they are made.

    Args:
        store: Where all of them are.
        run: The MLflow run they lie under.
    """

    store: Store
    run: str


@contextmanager
def grouped(folder: Path, source: str, command: str) -> Iterator[Group]:
    """Begin the MLflow run of a comparison or a study, or go on with it, and say at the end how it ended.

    Args:
        folder: Of the comparison or the study; its name is that of the experiment.
        source: The data.
        command: What the user typed.

    Yields:
        What its runs need to know.

    Raises:
        OptionError: If MLflow is not installed.
        RunError: If it cannot be reached.
    """
    store = Store.of_group(folder)
    run = MlflowRun(store, folder, folder.resolve().name)
    run.begin({"source": source, "folder": str(folder.resolve()), "command": command}, {})
    try:
        yield Group(store, run.id)
    except Exception:
        _ended(run, "FAILED")
        raise
    except BaseException:
        _ended(run, "KILLED")
        raise
    _ended(run, "FINISHED")


def _ended(run: MlflowRun, status: str) -> None:
    try:
        run.end(status)
    except RunError as error:
        warnings.warn(str(error), RunWarning, stacklevel=3)
