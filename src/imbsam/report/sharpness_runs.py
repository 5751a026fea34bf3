"""Measured sharpness of runs, by method."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from imbsam.runs.sharpness_record import Measured, SharpnessRecord

F = TypeVar("F")
Floats = npt.NDArray[np.float64]
GROUPS = ("overall", "many", "medium", "few", "head", "tail")


NUMBERS = (
    "loss",
    "gradient norm",
    "largest eigenvalue",
    "smallest eigenvalue",
    "trace",
    "SAM sharpness",
    "adaptive sharpness",
)
"""Numbers in the columns of tables."""


@dataclass(frozen=True)
class Spread:
    """Median and range of a number over the runs of a method.

    Args:
        middle: The median.
        low: The lowest.
        high: The highest.
    """

    middle: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class SharpnessStudy:
    """Content of the report.

    Args:
        runs: Runs in order, at least one.
    """

    runs: Sequence[SharpnessRecord]

    def __repr__(self) -> str:
        return f"SharpnessStudy({len(self.runs)} runs: {', '.join(self.labels)})"

    def _repr_html_(self) -> str:
        """A table for notebooks: the groups of classes, method by method."""
        # The table is made of studies, and needs this module first.
        from imbsam.report.sharpness import group_table

        return group_table(self, brief=True)._repr_html_()

    @property
    def labels(self) -> tuple[str, ...]:
        """Methods, in order; the first is the baseline."""
        return tuple(dict.fromkeys(run.label for run in self.runs))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that some run has."""
        return tuple(group for group in GROUPS if any(group in run.parts for run in self.runs))

    @property
    def groups_alike(self) -> list[list[str]]:
        """Groups, with those of the same classes in every run merged."""
        alike: dict[tuple[tuple[int, ...], ...], list[str]] = {}
        for group in self.groups:
            alike.setdefault(tuple(tuple(run.parts.get(group, ())) for run in self.runs), []).append(group)
        return list(alike.values())

    @property
    def contrast(self) -> tuple[str, ...]:
        """Groups to compare: head and tail, else the most and the least frequent shot group."""
        return tuple(g for g in ("head", "tail") if g in self.groups) or self.groups[:1]

    def runs_of(self, label: str) -> list[SharpnessRecord]:
        """Return the runs of a method."""
        return [run for run in self.runs if run.label == label]

    def spread(self, label: str, part: str, name: str) -> Spread | None:
        """Return median and range of a number of :data:`NUMBERS` over the runs of a method; None if none has it."""
        values = [value for run in self.runs_of(label) if (value := number(run, part, name)) is not None]
        return Spread(median(values), min(values), max(values)) if values else None


def option(measured: Iterable[Measured[F]], name: str) -> str:
    """Describe the values of an option of a measure in some runs."""
    held = (each.options[name] for each in measured if each.found)
    return ", ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in held))


def number(run: SharpnessRecord, part: str, name: str) -> float | None:
    """Return a number of :data:`NUMBERS` for a group, or for a class under its index; None if it was not measured."""
    measured, found = run.measured, dict[str, float]()
    if (sam := measured.sam.found.get(part)) is not None:
        found |= {"loss": sam.loss, "gradient norm": sam.gradient_norm}
        found |= {"SAM sharpness": sam.rise, "adaptive sharpness": sam.adaptive_rise}
    if (spectrum := measured.spectrum.found.get(part)) is not None:
        found |= {"largest eigenvalue": spectrum.largest, "smallest eigenvalue": spectrum.smallest}
    if (trace := measured.trace.found.get(part)) is not None:
        found["trace"] = trace.value
    return found.get(name)


def losses_of(run: SharpnessRecord, classes: Sequence[int], losses: Sequence[Sequence[float | None]]) -> Floats:
    """Compute the losses of a part at each point from those of its classes, weighted by their rows.

    Args:
        run: Run that was measured.
        classes: Classes of the part.
        losses: Points by classes.

    Returns:
        Losses, shape ``(points,)``; infinite where the loss of a class is.
    """
    present = [index for index in classes if run.drawn[index]]
    shares = np.array([run.sizes[index] for index in present], dtype=np.float64)
    values = [[np.inf if row[index] is None else row[index] for index in present] for row in losses]
    losses_of_part: Floats = np.array(values, dtype=np.float64) @ (shares / shares.sum())
    return losses_of_part
