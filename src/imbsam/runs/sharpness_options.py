"""What to measure of the sharpness of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imbsam.errors import OptionError
from imbsam.runs.sharpness_record import MeasureName

Along = Literal["random", "overall", "many", "medium", "few", "head", "tail"]
MEASURES: tuple[MeasureName, ...] = ("spectrum", "trace", "sam", "line", "plane")


@dataclass(frozen=True)
class SharpnessOptions:
    """What to measure, and how closely.

    Args:
        split: Rows of which part of the data.
        epoch: Weights of the epoch that the run kept, or of its last one.
        measures: Some of :data:`MEASURES`.
        rows: Most rows of each class.
        iterations: Lanczos steps of each spectrum.
        probes: Random vectors of the trace.
        rho: Radius of SAM sharpness; by default that of training on such data.
        adaptive_rho: Radius of adaptive sharpness.
        ascent_steps: Steps of the ascent; 1 is SAM's.
        points: Points of a line.
        plane_points: Points of each side of a plane.
        span: Half the length of a line and of a plane's sides.
        along: Filter-normalised random directions, or the eigenvectors of a group's Hessian.
        seed: Of the rows, the directions and the probes.
        float64: Compute in double precision.
        batch_size: Most rows forwarded at once.
    """

    split: Literal["train", "validation"] = "train"
    epoch: Literal["kept", "last"] = "kept"
    measures: Sequence[MeasureName] = MEASURES
    rows: int = 32
    iterations: int = 20
    probes: int = 10
    rho: float | None = None
    adaptive_rho: float = 0.5
    ascent_steps: int = 1
    points: int = 21
    plane_points: int = 11
    span: float = 1.0
    along: Along = "random"
    seed: int = 0
    float64: bool = False
    batch_size: int = 128

    def check(self) -> None:
        """Refuse options that cannot be.

        Raises:
            OptionError: Naming the first.
        """
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            raise OptionError(
                f"there is no measure {unknown[0] if unknown else ''!r}; choose from {', '.join(MEASURES)}."
            )
        for name in ("rows", "iterations", "probes", "ascent_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name.replace('_', '-')} must be at least 1; got {getattr(self, name)}.")
        for name in ("points", "plane_points"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise OptionError(
                    f"--{name.replace('_', '-')} must be odd and at least 3, so that the weights themselves are one of "
                    f"the points; got {getattr(self, name)}."
                )
        for name in ("rho", "adaptive_rho", "span"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(f"--{name.replace('_', '-')} must be finite and above 0; got {value}.")
