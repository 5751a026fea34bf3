"""Trainings and predictions one after the other in one process: memory and open files have to stay flat.

python tests/reliability/soak.py [SECONDS]  goes on for so long (default two hours) and prints a line a minute.
"""

import ctypes
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from imbsam.runs.trained import Trained
from reliability import small
from tiny_data import table


@dataclass(frozen=True)
class Use:
    """What the process holds.

    Args:
        memory: Resident bytes.
        files: Open descriptors.
    """

    memory: int
    files: int


def use() -> Use:
    gc.collect()
    # What was freed goes back to the system, so that only what is held counts.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Use(pages * resource.getpagesize(), len(list(Path("/proc/self/fd").iterdir())))


def soak(place: Path) -> Iterator[Use]:
    """Train, open, predict; what is held after each round."""
    data = small.source(place)
    new = table(place / "new.csv", rows=30, seed=3, target=False)
    rounds = 0
    while True:
        method = ("imbsam", "sam", "cc-sam", "focal-sam")[rounds % 4]
        run = small.train(place / "run", data, method=method, seed=rounds)
        Trained.open(run.path).predict(str(new), place / "p.csv")
        run.clear()
        rounds += 1
        yield use()


if __name__ == "__main__":
    until = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 7200)
    with tempfile.TemporaryDirectory() as place:
        shown = 0.0
        for rounds, held in enumerate(soak(Path(place)), start=1):
            if time.monotonic() - shown > 60 or time.monotonic() > until:
                shown = time.monotonic()
                print(f"{rounds} rounds: {held.memory / 2**20:.1f} MiB, {held.files} files", flush=True)
            if time.monotonic() > until:
                break
