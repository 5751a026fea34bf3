"""Runs of a study as lines of JSON: what is there need not be made again, and a line is added whole or not at all."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def read(results: Path) -> list[dict[str, object]]:
    """All runs; none where there is no file."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


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
