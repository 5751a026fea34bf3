"""Runs that several processes share: ``rank_runs.py RANK SIZE FOLDER SOURCE``, in the environment of torchrun."""

import shutil
import signal
import sys
from pathlib import Path

from imbsam.optim import SharpnessAware
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.ranks import World, joined
from imbsam.storage.interruption import Stopped
from reliability import small

PLAIN = {"model": "runs.rank_models:plain", "hidden": [128, 128]}
DROPOUT = {**PLAIN, "model": "runs.rank_models:dropout"}
EQUAL = {
    "imbsam": PLAIN,
    "sam, clipped": {**PLAIN, "method": "sam", "clip_norm": 0.5},
    "sgd": {**PLAIN, "method": "sgd"},
    "last batch of two rows": {**PLAIN, "batch_size": 17},
    "batches of one row": {**PLAIN, "batch_size": 1},
    "gathered, prepared by workers": {**PLAIN, "sampler": "gathered", "tail_rows": 3, "workers": 1},
    "balanced, deterministic": {**PLAIN, "sampler": "balanced", "deterministic": True},
    "skip": {**PLAIN, "nonfinite": "skip"},
    "averaged": {**PLAIN, "average": "ema"},
    "once learned": {**PLAIN, "sharp_recall": 0.3},
    "repeated, smoothed": {**PLAIN, "sampler": "repeated", "repeat_threshold": 0.5, "label_smoothing": 0.1},
}
"""Options of runs whose rows do not see each other: any number of processes comes to the same."""
OTHERS = {
    "bfloat16": {"precision": "bfloat16"},
    "batch norm": {**PLAIN, "model": "runs.rank_models:batch_norm", "batch_size": 17},
    "dropout": DROPOUT,
}
STOP_AT = 5
"""A step in the midst of the second epoch."""


def stopped(run: RunFolder, source: str, world: World, **values: object) -> None:
    """Train until a signal reaches the last rank alone, within a step."""
    original, made = SharpnessAware.passes, 0

    def passes(optimizer: SharpnessAware, *rest: object, **named: object) -> object:
        nonlocal made
        made += 1
        if made == STOP_AT and world.rank == world.size - 1:
            signal.raise_signal(signal.SIGTERM)
        return original(optimizer, *rest, **named)

    SharpnessAware.passes = passes
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        fit(run, source, small.options(**values), label="a", world=world)
    except (Stopped, KeyboardInterrupt):
        assert made == STOP_AT
    else:
        raise AssertionError("nothing stopped the run")
    finally:
        SharpnessAware.passes = original
        signal.signal(signal.SIGTERM, handler)


def main(folder: Path, source: str) -> None:
    with joined() as world:
        own = folder / str(world.size)

        def train(name: str, **values: object) -> None:
            fit(RunFolder(own / name), source, small.options(**values), label="a", world=world)

        for name, values in {**EQUAL, **OTHERS}.items():
            train(name, **values)
        for name, values in {"stopped": PLAIN, "dropout, stopped": DROPOUT}.items():
            stopped(RunFolder(own / name), source, world, **values)
        world.from_first(lambda: shutil.copytree(own / "dropout, stopped", own / "dropout, resumed"))
        train("dropout, resumed", **DROPOUT)
        for other in [path for path in sorted(folder.glob("*/stopped")) if path.parent != own]:
            name = f"{other.parent.name} resumed"
            world.from_first(lambda other=other, name=name: shutil.copytree(other, own / name))
            train(name, **PLAIN)


if __name__ == "__main__":
    main(Path(sys.argv[3]), sys.argv[4])
