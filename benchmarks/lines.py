"""Runs of a study as lines of JSON: what is there need not be made again, and a line is added whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import pandas as pd

Key = tuple[object, ...]
Job = TypeVar("Job")


def read(results: Path) -> list[dict[str, object]]:
    """All runs; none where there is no file."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def frame(results: Path) -> pd.DataFrame:
    """All runs, one row each; what a run has by part in columns like ``test.few``."""
    return pd.json_normalize(read(results), max_level=1)


def finished(results: Path, key: Sequence[str]) -> set[tuple[object, ...]]:
    """The runs that need not be made again, by these parts of them."""
    return {tuple(run[part] for part in key) for run in read(results)}


def append(results: Path, run: Mapping[str, object]) -> None:
    """Add a run: one write to a file opened for appending."""
    file = os.open(results, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, (json.dumps(run) + "\n").encode())
    finally:
        os.close(file)


def make(
    jobs: Mapping[Key, Job],
    carry_out: Callable[[Job], dict[str, object]],
    runs: Path,
    workers: int,
    scores: Callable[[dict[str, object]], str],
) -> None:
    """Make runs side by side and keep each; one that fails does not take the others with it.

    Args:
        jobs: By what they go by.
        carry_out: Makes a run, in whatever process it is called.
        runs: Where their lines go.
        workers: Processes.
        scores: What is printed of a run.

    Raises:
        SystemExit: At the end, where a run has failed.
    """
    failed = []
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        waiting = {pool.submit(carry_out, job): key for key, job in jobs.items()}
        for number, done in enumerate(as_completed(waiting), start=1):
            key = waiting[done]
            if (error := done.exception()) is not None:
                failed.append(f"{key}: {error!r}")
                continue
            append(runs, run := done.result())
            print(f"{number}/{len(jobs)}", *key, scores(run), flush=True)
    if failed:
        raise SystemExit("\n".join(["These failed:", *failed]))


def replace(results: Path, runs: Iterable[Mapping[str, object]], key: str) -> None:
    """Put runs in the place of those that are alike in ``key``; the file is sorted by it."""
    new = list(runs)
    names = {run[key] for run in new}
    kept = [run for run in read(results) if run[key] not in names]
    written = results.with_suffix(".part")
    written.write_text("".join(json.dumps(run) + "\n" for run in sorted([*kept, *new], key=lambda run: str(run[key]))))
    written.replace(results)
