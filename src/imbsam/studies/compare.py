"""Many runs: methods times seeds, in parallel processes, none of them run twice."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imbsam.config import Options, Track
from imbsam.errors import ImbsamError, OptionError, RunError
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking import Store, chosen, together
from imbsam.storage.records import SCHEMA
from imbsam.studies.comparison import Comparison
from imbsam.studies.specs import read_spec
from imbsam.studies.workers import HERE, Workers
from imbsam.training.methods import FAMILIES, passes_of, with_own_options


@dataclass(frozen=True)
class Variant:
    """Method with options of its own.

    Args:
        label: Text of the user, ``METHOD`` or ``METHOD:NAME=VALUE,NAME=VALUE``.
        values: Options of the method by name.
    """

    label: str
    values: Mapping[str, object]

    @classmethod
    def parse(cls, label: str) -> "Variant":
        """Read a variant.

        Raises:
            OptionError: If the variant cannot be read.
        """
        method, values = read_spec(label, "--methods")
        return cls(label, {"method": method, **values})


def every_method(labels: Sequence[str]) -> list[str]:
    """Replace the name of a family by its methods, except those that are in the labels already."""
    found: list[str] = []
    for label in labels:
        members = FAMILIES.get(label)
        found += [label] if members is None else [n for n in members if n not in found and n not in labels]
    return found


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison."""

    folder: Path
    label: str
    options: Options


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run: its error, or ``None``."""

    run: PlannedRun
    error: str | None


def plan_runs(folder: Path, options: Options, variants: Sequence[Variant], seeds: Sequence[int]) -> list[PlannedRun]:
    """List the runs, seeds outermost, so that an interrupted comparison is a smaller comparison.

    Raises:
        OptionError: If a variant's option is unknown or out of range, or a variant is given twice.
    """
    labels = [variant.label for variant in variants]
    if len(set(labels)) < len(labels) or not labels:
        raise OptionError(f"--methods needs different methods, at least one; got {' '.join(labels) or 'none'}.")
    if len(set(seeds)) < len(seeds) or not seeds:
        raise OptionError(f"--seeds needs different seeds, at least one; got {' '.join(map(str, seeds)) or 'none'}.")
    return [
        PlannedRun(
            folder / "runs" / f"{re.sub(r'[^A-Za-z0-9_.=,+-]+', '-', variant.label)}-seed{seed}",
            variant.label,
            _options_of(variant, options, seed),
        )
        for seed in seeds
        for variant in variants
    ]


def _options_of(variant: Variant, options: Options, seed: int) -> Options:
    try:
        return with_own_options(options, {**variant.values, "seed": seed})
    except OptionError as error:
        raise OptionError(f"--methods {variant.label}: {error}") from None


def compare(
    folder: Path,
    source: str,
    runs: Sequence[PlannedRun],
    *,
    workers: Workers = HERE,
    command: str = "",
) -> Iterator[Outcome]:
    """Make every run that is not finished yet, and yield how each ended.

    Args:
        folder: Folder of the comparison.
        source: The data.
        runs: Runs from :func:`plan_runs`.
        workers: Workers that make them.
        command: Command that the user typed, for the report.

    Yields:
        The outcome of each run, finished ones first.

    Raises:
        OptionError: If the workers cannot be used.
        RunError: If a folder contains a run with other options, or a process died repeatedly.
    """
    finished = [run for run in runs if state_of(run, source) == "finished"]
    todo = [run for run in runs if run not in finished]
    track = tracks_of(todo)
    Comparison(
        SCHEMA,
        source,
        methods=tuple(dict.fromkeys(run.label for run in runs)),
        seeds=tuple(dict.fromkeys(run.options.training.seed for run in runs)),
        runs=tuple(str(run.folder.relative_to(folder)) for run in runs),
        command=command,
    ).write(folder)
    yield from (Outcome(run, None) for run in finished)
    with together(track, folder, source, command) as store:
        yield from make_runs(source, longest_first(todo), workers, store)


def longest_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Sort runs seed by seed, the longest of each first: the last to begin are short, and no core waits long for them.

    Args:
        runs: Runs of a comparison, from :func:`plan_runs`.
    """
    seeds = list(dict.fromkeys(run.options.training.seed for run in runs))
    return sorted(runs, key=lambda run: (seeds.index(run.options.training.seed), -passes_of(run.options.method.method)))


def tracks_of(runs: Sequence[PlannedRun]) -> list[Track]:
    """Return the trackers that any of the runs writes to."""
    return sorted({track for run in runs for track in chosen(run.options.training.track)})


def make_runs(
    source: str, runs: Sequence[PlannedRun], workers: Workers, store: Store | None = None
) -> Iterator[Outcome]:
    """Make or resume runs, and yield how each ended, in the order in which they end."""
    threads = workers.threads(len(runs))
    yield from workers.carry_out(_make, [(source, run, threads, store) for run in runs])


def _make(work: tuple[str, PlannedRun, int | None, Store | None]) -> Outcome:
    """Make one run, in the process of a worker."""
    source, run, threads, store = work
    options = run.options
    if options.training.threads is None and threads is not None:
        options = options.updated({"threads": threads})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(RunFolder(run.folder), source, options, label=run.label, store=store)
    except ImbsamError as error:
        return Outcome(run, str(error))
    return Outcome(run, None)


def state_of(run: PlannedRun, source: str) -> str:
    """Return whether a run is finished, begun, or new.

    Raises:
        RunError: If its folder contains a run with other options.
    """
    folder = RunFolder(run.folder)
    if not folder.exists():
        return "new"
    held_source, _ = folder.read_config()
    differing = run.options.differing(folder.read_data().asked)
    if held_source != source:
        differing.append("source")
    if differing:
        raise RunError(
            f"{run.folder} holds a run with another {', '.join(differing)}. Choose another --out, or remove the folder."
        )
    return "finished" if folder.result.exists() else "begun"
