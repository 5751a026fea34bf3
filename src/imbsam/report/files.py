"""Data of a report: a run, or the runs of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imbsam.errors import RunError
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import EpochRecord, Example, Result
from imbsam.storage.texts import printable
from imbsam.studies.comparison import Comparison


@dataclass(frozen=True)
class Run:
    """Finished run.

    Args:
        folder: Folder of the run.
        result: Outcome of the run.
        epochs: Record of each epoch.
        examples: Images of samples of a class that were predicted as another, by both classes.
    """

    folder: Path
    result: Result
    epochs: Sequence[EpochRecord]
    examples: Mapping[tuple[int, int], Sequence[Example]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Content of a report: one run, or a comparison of several.

    Args:
        source: The data.
        labels: Methods in order, the baseline first.
        runs: Finished runs, at least one.
        missing: Folders of runs that did not finish.
        command: Command that made the comparison; None for a single run.
    """

    source: str
    labels: tuple[str, ...]
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    command: str | None = None

    def runs_of(self, label: str) -> list[Run]:
        """Return the finished runs of one method."""
        return [run for run in self.runs if run.result.label == label]

    @property
    def alike(self) -> "Study":
        """Runs with the classes and counts of the first: a seed may draw other classes to be rare."""
        first = self.runs[0].result
        held = (run for run in self.runs if (run.result.classes, run.result.counts) == (first.classes, first.counts))
        return replace(self, runs=tuple(held))


def read_study(folder: Path) -> Study:
    """Read the folder of a run or of a comparison.

    Args:
        folder: Folder with ``comparison.json``, or else ``result.json``.

    Returns:
        The study; some runs of a comparison may be missing, but not all.

    Raises:
        RunError: If the folder has neither file, a file is damaged, or no run of a comparison finished.
    """
    if Comparison.stands_in(folder):
        return _read_comparison(folder)
    if not RunFolder(folder).result.is_file():
        raise RunError(
            f"{folder / 'result.json'} is missing, and so is comparison.json: this is not the folder of a "
            "finished run or comparison. Give the folder that training wrote; if the run was interrupted, "
            "train again."
        )
    run = read_run(folder)
    return Study(source=run.result.source, labels=(run.result.label,), runs=(run,))


def _read_comparison(folder: Path) -> Study:
    comparison = Comparison.read(folder)
    finished = {name: folder / name for name in comparison.runs if RunFolder(folder / name).result.is_file()}
    if not finished:
        raise RunError(
            f"{folder}: none of its {len(comparison.runs)} runs has a result.json. Run the comparison again."
        )
    runs = tuple(map(read_run, finished.values()))
    return Study(
        source=comparison.source,
        labels=tuple(dict.fromkeys([*comparison.methods, *(run.result.label for run in runs)])),
        runs=runs,
        missing=tuple(printable(name) for name in comparison.runs if name not in finished),
        command=comparison.command,
    )


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Args:
        folder: Folder with ``result.json``, and with ``metrics.jsonl`` and ``examples.json`` if they exist.

    Returns:
        The run.

    Raises:
        RunError: If ``result.json`` is missing, or one of the files is damaged.
    """
    held = RunFolder(folder)
    if not held.result.is_file():
        raise RunError(f"{held.result} is missing: the run did not finish. Train again.")
    result, examples = held.read_result(), held.read_examples()
    pictured = {} if examples is None else {(pair.true, pair.predicted): pair.images for pair in examples.confused}
    return Run(folder, result, held.epochs(), pictured)
