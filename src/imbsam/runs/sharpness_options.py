"""Options of measuring the sharpness of a run: their defaults and their limits."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from imbsam.config import STRICT, Count, Positive, checked


def _odd(points: int) -> int:
    if points % 2 == 0:
        raise ValueError("must be odd, so that the weights themselves are one of the points")
    return points


Points = Annotated[int, Field(ge=3), AfterValidator(_odd)]
MeasureName = Literal["spectrum", "trace", "sam", "line", "plane"]


@dataclass(frozen=True)
class SharpnessOptions:
    """Sharpness: what to measure, and how closely."""

    __pydantic_config__ = STRICT

    split: Literal["train", "validation"] = "train"
    """Rows of which part of the run's data, without augmentation."""
    epoch: Literal["kept", "last"] = "kept"
    """Weights of the epoch that each run kept, or of its last one. Runs that kept an early epoch differ in how far they
    were trained; last compares them at the same point."""
    measures: Annotated[tuple[MeasureName, ...], Field(min_length=1)] = ("spectrum", "trace", "sam", "line", "plane")
    """spectrum: largest and smallest Hessian eigenvalue, density of all. trace: of the Hessian. sam: how far the loss
    rises within rho. line, plane: loss along one and two directions."""
    rows: Count = 32
    """At most so many rows of each class; the work grows with them."""
    iterations: Count = 20
    """Lanczos steps of a spectrum: Hessian products for each part."""
    probes: Count = 10
    """Random vectors of the trace."""
    rho: Positive | None = None
    """Radius of SAM sharpness. Default: that of training, 0.2 for digits, else 0.05."""
    adaptive_rho: Positive = 0.5
    """Radius of adaptive sharpness, relative to the weights."""
    ascent_steps: Count = 1
    """Steps of the ascent within rho; 1 is SAM's own."""
    points: Points = 21
    """Points of the line, odd."""
    plane_points: Points = 11
    """Points of each side of the plane, odd."""
    span: Positive = 1.0
    """How far line and plane reach to each side."""
    along: Literal["random", "overall", "many", "medium", "few", "head", "tail"] = "random"
    """Line and plane: filter-normalised random directions, or eigenvectors of the Hessian of a group."""
    seed: int = 0
    """Of the rows, directions and probes."""
    float64: bool = False
    """Compute in double precision."""
    batch_size: Count = 128
    """Most rows forwarded at once."""

    def check(self) -> None:
        """Refuse options that are not valid.

        Raises:
            OptionError: If options are out of range; the message names each.
        """
        checked(SharpnessOptions, dataclasses.asdict(self))
