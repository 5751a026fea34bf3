"""Runs of a study as lines of JSON: what is there need not be made again, and a line is added whole or not at all."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd


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


def replace(results: Path, runs: Iterable[Mapping[str, object]], key: str) -> None:
    """Put runs in the place of those that are alike in ``key``; the file is sorted by it."""
    new = list(runs)
    names = {run[key] for run in new}
    kept = [run for run in read(results) if run[key] not in names]
    written = results.with_suffix(".part")
    written.write_text("".join(json.dumps(run) + "\n" for run in sorted([*kept, *new], key=lambda run: str(run[key]))))
    written.replace(results)
