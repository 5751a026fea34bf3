"""Runs ended by real signals at chosen steps and resumed, beside runs that nothing ended.

python tests/reliability/resumption.py  ends and resumes each method with each base, at the first step, within an epoch
and at its end, with and without processes that load the data; each also ended twice.
"""

import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

from imbsam.optim import SharpnessAware
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.storage.interruption import Stopped, raised
from imbsam.training.methods import NAMES, PLAIN
from reliability import small

# The first step, one within an epoch, and the last of an epoch.
STOPS = (1, small.STEPS - 1, small.STEPS)
CASES = [(method, base) for method in NAMES for base in PLAIN if method not in PLAIN or base == "sgd"]


class Watched:
    """Notes the digest of every batch and raises a signal within chosen steps.

    Args:
        stops: Numbers of steps, counted over the whole run from 1; each is ended once.
    """

    def __init__(self, stops: Sequence[int] = ()) -> None:
        self.batches: list[str] = []
        self._stops = set(stops)

    def passes(self, original):
        def opened(optimizer, targets, **values):
            self.batches.append(small.digest([targets, optimizer.steps]))
            if len(self.batches) in self._stops:
                signal.raise_signal(signal.SIGTERM)
            return original(optimizer, targets, **values)

        return opened


def train(folder: Path, data: Path, monkeypatch, stops: Sequence[int] = (), **values: object) -> Watched:
    """Train, go on after each signal, and give what was seen."""
    watched = Watched(stops)
    run, chosen, times = RunFolder(folder), small.options(**values), 0
    with monkeypatch.context() as patch:
        patch.setattr(SharpnessAware, "passes", watched.passes(SharpnessAware.passes))
        while not run.result.exists():
            try:
                with raised():
                    fit(run, str(data), chosen, label="a")
            except Stopped:
                times += 1
    assert times == len(stops)
    return watched


def main() -> None:
    count = 0
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        data = small.source(Path(name))
        for method, base in CASES:
            straight = Path(name) / f"{method}-{base}"
            batches = train(straight, data, patch, method=method, base=base).batches
            expected = small.outcome(straight)
            for workers in (0, 2):
                for stops in (*((stop,) for stop in STOPS), STOPS[1:]):
                    folder = straight.with_name(f"{straight.name}-{workers}-{stops}")
                    ended = train(folder, data, patch, stops, method=method, base=base, workers=workers)
                    assert ended.batches == batches, folder.name
                    assert small.outcome(folder) == expected, folder.name
                    count += 1
    print(f"{count} runs of {len(CASES)} methods with a base, ended and resumed, came to the same bytes")


if __name__ == "__main__":
    main()
