"""Runs ended by real signals at chosen steps and resumed, beside runs that nothing ended."""

import signal
from collections.abc import Sequence
from pathlib import Path

from imbsam.engine import RunFolder, fit
from imbsam.interruption import Stopped, raised
from imbsam.optim import SharpnessAware
from reliability import small


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
