"""Runs that take a tenth of a second, and what must be the same of two of them."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path

import torch

from imbsam.cli import main
from imbsam.config import Options
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from tiny_data import table

STEPS = 3
"""Of an epoch on the small table with the small options."""


def source(folder: Path) -> Path:
    return table(folder / "parts.csv", rows=60)


def options(**values: object) -> Options:
    small = {
        "target": "kind",
        "method": "imbsam",
        "epochs": 2,
        "batch_size": 14,
        "hidden": [4],
        "track": "none",
        "threads": 1,
    }
    return Options().updated({**small, **values})


def train(folder: Path, data: Path, **values: object) -> RunFolder:
    run = RunFolder(folder)
    fit(run, str(data), options(**values), label="a")
    return run


def detector(folder: Path) -> Path:
    """The folder of a fitted detector, beside the rows it was fitted on."""
    place = folder / "detector"
    words = ["anomaly", "fit", str(source(folder)), "--labels", "kind", "--anomaly", "broken", "--unlabelled", "good"]
    words += ["--normal", "scratched", "--epochs", "1", "--members", "1", "--quiet", "--out", str(place)]
    with contextlib.suppress(SystemExit):
        main(words)
    assert (place / "detector.json").exists()
    return place


def copied(run: RunFolder, folder: Path) -> RunFolder:
    """A run that may be damaged."""
    shutil.copytree(run.path, folder)
    return RunFolder(folder)


def outcome(folder: Path) -> dict[str, object]:
    """All that a run comes to, but for names, dates and durations."""
    run = RunFolder(folder)
    changing = {"name", "train_seconds", "finished", "config", "source"}
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return {
        "weights": run.weights.read_bytes(),
        "metrics": [{name: value for name, value in line.items() if name != "seconds"} for line in lines],
        "checkpoint": digest(replace(run.read_checkpoint(), options={})),
        "result": {name: value for name, value in vars(run.read_result()).items() if name not in changing},
    }


def digest(value: object) -> str:
    """SHA-256 of nested mappings, sequences, numbers and tensors, to the bit."""
    whole = hashlib.sha256()

    def add(part: object) -> None:
        whole.update(type(part).__name__.encode())
        if isinstance(part, torch.Tensor):
            whole.update(f"{part.dtype}{tuple(part.shape)}".encode())
            whole.update(part.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(part, Mapping) or is_dataclass(part):
            for name, each in (part if isinstance(part, Mapping) else vars(part)).items():
                add(str(name))
                add(each)
        elif isinstance(part, list | tuple):
            for each in part:
                add(each)
        else:
            whole.update(repr(part).encode())

    add(value)
    return whole.hexdigest()
