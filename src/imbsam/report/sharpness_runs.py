"""What was measured of the sharpness of runs, read and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

# pydantic reads the annotations of typing.TypedDict from Python 3.12 on only.
from typing_extensions import TypedDict

from imbsam.errors import RunError
from imbsam.priors import ShotGroup
from imbsam.report.files import Text

Floats = npt.NDArray[np.float64]
GROUPS = ("overall", "many", "medium", "few", "head", "tail")


class Found(TypedDict, total=False):
    """The result of a measure for one part; each measure has some of these."""

    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    converged: bool
    nodes: list[float]
    weights: list[float]
    value: float
    standard_error: float | None
    rise: float
    adaptive_rise: float
    loss: float
    gradient_norm: float
    offsets: list[float]
    losses: list[list[float | None]]


class Measure(TypedDict):
    """Results by group, and by class under its index; a line or plane by its rows of points."""

    options: dict[str, object]
    found: dict[str, Found]


class SharpnessRun(TypedDict):
    """The contents of ``sharpness-SPLIT.json``; the lists over classes have one length."""

    schema: Literal[1]
    name: Text
    label: Text
    seed: int
    source: Text
    loss: Text
    split: Literal["train", "validation"]
    settings: dict[str, object]
    parameters: int
    classes: list[Text]
    counts: list[int]
    groups: list[ShotGroup]
    sizes: list[int]
    drawn: list[int]
    parts: dict[str, list[int]]
    measured: dict[Literal["spectrum", "trace", "sam", "line", "plane"], Measure]


Number = Literal["loss", "gradient_norm", "largest", "smallest", "value", "rise", "adaptive_rise"]
Source = Literal["spectrum", "trace", "sam"]
NUMBERS: Mapping[str, tuple[Source, Number]] = {
    "loss": ("sam", "loss"),
    "gradient norm": ("sam", "gradient_norm"),
    "largest eigenvalue": ("spectrum", "largest"),
    "smallest eigenvalue": ("spectrum", "smallest"),
    "trace": ("trace", "value"),
    "SAM sharpness": ("sam", "rise"),
    "adaptive sharpness": ("sam", "adaptive_rise"),
}
"""What stands in the columns of tables, and where it comes from."""

_RUNS = TypeAdapter(list[SharpnessRun])


@dataclass(frozen=True)
class Spread:
    """A number over the runs of a method.

    Args:
        middle: The median.
        low: The lowest.
        high: The highest.
    """

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class SharpnessStudy:
    """What the report is about.

    Args:
        runs: In order.
    """

    runs: Sequence[SharpnessRun]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, object]]) -> "SharpnessStudy":
        """Check what was measured.

        Args:
            runs: Contents of ``sharpness-SPLIT.json`` of each, at least one.

        Returns:
            The study.

        Raises:
            RunError: If one is damaged.
        """
        try:
            return cls(_RUNS.validate_python(runs))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise RunError(f"the sharpness of a run is damaged: {key}: {first['msg']}. Measure it again.") from error

    @property
    def labels(self) -> tuple[str, ...]:
        """Methods, in order; the first is the baseline."""
        return tuple(dict.fromkeys(run["label"] for run in self.runs))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that some run has."""
        return tuple(group for group in GROUPS if any(group in run["parts"] for run in self.runs))

    @property
    def groups_alike(self) -> list[list[str]]:
        """The groups, those of the same classes in every run together."""
        alike: dict[tuple[tuple[int, ...], ...], list[str]] = {}
        for group in self.groups:
            alike.setdefault(tuple(tuple(run["parts"].get(group, ())) for run in self.runs), []).append(group)
        return list(alike.values())

    @property
    def contrast(self) -> tuple[str, ...]:
        """The groups to look at side by side: head and tail, else the shot groups at the ends."""
        return tuple(g for g in ("head", "tail") if g in self.groups) or self.groups[:1]

    def runs_of(self, label: str) -> list[SharpnessRun]:
        """The runs of a method."""
        return [run for run in self.runs if run["label"] == label]

    def spread(self, label: str, part: str, name: str) -> Spread | None:
        """A number of :data:`NUMBERS` over the runs of a method; None if none has it."""
        values = [value for run in self.runs_of(label) if (value := number(run, part, name)) is not None]
        return Spread(median(values), min(values), max(values)) if values else None

    def option(self, measure: Source, name: str) -> str:
        """The values of an option of a measure, in words."""
        held = (run["measured"][measure]["options"].get(name) for run in self.runs if measure in run["measured"])
        return ", ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in held))


def number(run: SharpnessRun, part: str, name: str) -> float | None:
    """A number of :data:`NUMBERS` for a group, or for a class under its index; None if it was not measured."""
    measure, key = NUMBERS[name]
    held = run["measured"].get(measure)
    return None if held is None else held["found"].get(part, Found()).get(key)


def losses_of(run: SharpnessRun, classes: Sequence[int], losses: Sequence[Sequence[float | None]]) -> Floats:
    """Losses of a part at each point out of those of its classes, weighed by their rows.

    Args:
        run: Whose.
        classes: The part.
        losses: Points by classes.

    Returns:
        Shape ``(points,)``; infinite where the loss of a class is.
    """
    present = [index for index in classes if run["drawn"][index]]
    shares = np.array([run["sizes"][index] for index in present], dtype=np.float64)
    values = [[np.inf if row[index] is None else row[index] for index in present] for row in losses]
    losses_of_part: Floats = np.array(values, dtype=np.float64) @ (shares / shares.sum())
    return losses_of_part
