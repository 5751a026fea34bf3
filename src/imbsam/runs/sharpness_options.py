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
    """Sharpness: what to measure, and how precisely."""

    __pydantic_config__ = STRICT

    split: Literal["train", "validation"] = "train"
    """Part of the run's data whose rows are used, without augmentation."""
    epoch: Literal["kept", "last"] = "kept"
    """Weights of the epoch that each run kept, or of its last epoch. Runs that kept an early epoch were trained for
    different lengths; last compares them at the same point."""
    measures: Annotated[tuple[MeasureName, ...], Field(min_length=1)] = ("spectrum", "trace", "sam", "line", "plane")
    """spectrum: largest and smallest Hessian eigenvalue, and the density of all. trace: trace of the Hessian. sam: rise
    of the loss within rho. line, plane: loss along one and two directions."""
    rows: Count = 32
    """Largest number of rows of each class; the work grows with it."""
    iterations: Count = 20
    """Lanczos steps of a spectrum: Hessian products for each part."""
    probes: Count = 10
    """Number of random vectors for the trace."""
    rho: Positive | None = None
    """Radius of SAM sharpness. Default: rho of training, 0.2 for digits, else 0.05."""
    adaptive_rho: Positive = 0.5
    """Radius of adaptive sharpness, relative to the weights."""
    ascent_steps: Count = 1
    """Number of steps of the ascent within rho; 1 is SAM's own."""
    points: Points = 21
    """Number of points of the line, odd."""
    plane_points: Points = 11
    """Number of points of each side of the plane, odd."""
    span: Positive = 1.0
    """Distance that line and plane reach to each side."""
    along: Literal["random", "overall", "many", "medium", "few", "head", "tail"] = "random"
    """Line and plane: filter-normalised random directions, or eigenvectors of the Hessian of a group."""
    seed: int = 0
    """Seed of the rows, directions and probes."""
    float64: bool = False
    """Compute in double precision."""
    batch_size: Count = 128
    """Largest number of rows forwarded at once."""

    def check(self) -> None:
        """Refuse options that are not valid.

        Raises:
            OptionError: If options are out of range; the message names each.
        """
        checked(SharpnessOptions, dataclasses.asdict(self))
