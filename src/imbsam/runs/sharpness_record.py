"""Content of ``sharpness-SPLIT.json``: measures of the loss surface of a run, by group, by class, by points."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from imbsam.priors import ShotGroup
from imbsam.storage.records import Text


@dataclass(frozen=True)
class Spectrum:
    """Spectrum of the Hessian of a part's loss.

    Args:
        largest: Largest eigenvalue.
        smallest: Smallest eigenvalue.
        largest_residual: Residual of the largest eigenvalue.
        smallest_residual: Residual of the smallest eigenvalue.
        converged: Whether both residuals are small.
        nodes: Nodes of the spectral density.
        weights: Weights of the nodes; they sum to 1.
    """

    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    converged: bool
    nodes: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class HessianTrace:
    """Trace of the Hessian of a part's loss.

    Args:
        value: The mean over the probes.
        standard_error: Standard error of the mean; None for one probe.
        samples: Samples, one for each probe; a group has none of its own.
    """

    value: float
    standard_error: float | None
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ascents:
    """Rises of a part's loss by a SAM step and by an adaptive step.

    Args:
        rise: Rise of the loss, by SAM's step.
        adaptive_rise: Rise of the loss, by ASAM's step.
        loss: Loss at the weights.
        gradient_norm: Norm of the gradient at the weights.
    """

    rise: float
    adaptive_rise: float
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Losses:
    """Losses along a line.

    Args:
        offsets: Distances from the weights.
        losses: Losses, points by classes; None where one is not finite.
    """

    offsets: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]


F = TypeVar("F")


@dataclass(frozen=True)
class Measured(Generic[F]):
    """Results of a measure, by group and by class under its index; of a line or plane by rows of points.

    Args:
        options: Options of the measure by name.
        found: Results so far.
    """

    options: Mapping[str, int | float | str] = field(default_factory=dict)
    found: dict[str, F] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """All measures of a run; a measure that was not chosen has no result."""

    spectrum: Measured[Spectrum] = field(default_factory=Measured)
    trace: Measured[HessianTrace] = field(default_factory=Measured)
    sam: Measured[Ascents] = field(default_factory=Measured)
    line: Measured[Losses] = field(default_factory=Measured)
    plane: Measured[Losses] = field(default_factory=Measured)


@dataclass(frozen=True)
class Drawing:
    """Rows and weights of the measurement.

    Args:
        epoch: Epoch of the weights.
        rows: Largest number of rows of each class.
        seed: Seed of the rows, the directions and the probes.
        float64: Whether it was computed in double precision.
    """

    epoch: Literal["kept", "last"]
    rows: int
    seed: int
    float64: bool


@dataclass(frozen=True)
class SharpnessRecord:
    """Content of the whole file; lists over classes have one length.

    Args:
        schema: Schema of the file.
        name: Name of the run's folder.
        label: Name of the variant in reports.
        seed: Seed of the run.
        source: Data of the run.
        loss: Loss that it minimised.
        split: Part of the data that the rows come from.
        settings: Rows and weights of the measurement.
        weights: SHA-256 of the weights.
        parameters: Number of weights.
        classes: Names of the classes.
        counts: Training samples of each class.
        groups: Shot group of each class.
        tail: Whether each class is tail.
        sizes: Rows of each class in the split.
        drawn: Rows of each class that were measured on.
        parts: Classes of each group.
        measured: The results.
    """

    schema: Literal[1]
    name: Text
    label: Text
    seed: int
    source: Text
    loss: Text
    split: Literal["train", "validation"]
    settings: Drawing
    weights: str
    parameters: int
    classes: tuple[Text, ...]
    counts: tuple[int, ...]
    groups: tuple[ShotGroup, ...]
    tail: tuple[bool, ...]
    sizes: tuple[int, ...]
    drawn: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]
    measured: Measures
