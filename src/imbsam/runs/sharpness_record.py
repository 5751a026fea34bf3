"""``sharpness-SPLIT.json``: what was measured of the loss surface of a run, by group, by class, by points."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from imbsam.priors import ShotGroup
from imbsam.storage.records import Text


@dataclass(frozen=True)
class Spectrum:
    """Of the Hessian of a part's loss.

    Args:
        largest: Eigenvalue.
        smallest: Eigenvalue.
        largest_residual: How far the largest is from being one.
        smallest_residual: How far the smallest is.
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
    """Of the Hessian of a part's loss.

    Args:
        value: The mean over the probes.
        standard_error: Standard error of the mean; None for one probe.
        samples: One for each probe; a group has none of its own.
    """

    value: float
    standard_error: float | None
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ascents:
    """What a SAM step and an adaptive one do to a part's loss.

    Args:
        rise: Rise of the loss, by SAM's step.
        adaptive_rise: By ASAM's.
        loss: At the weights.
        gradient_norm: There.
    """

    rise: float
    adaptive_rise: float
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Losses:
    """Along a line.

    Args:
        offsets: From the weights.
        losses: Points by classes; None where one is not finite.
    """

    offsets: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]


F = TypeVar("F")


@dataclass(frozen=True)
class Measured(Generic[F]):
    """The results of a measure, by group and by class under its index; of a line or plane by its rows of points.

    Args:
        options: What it was measured with, by name.
        found: What was found so far.
    """

    options: Mapping[str, int | float | str] = field(default_factory=dict)
    found: dict[str, F] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """All of a run; one that was not asked for has found nothing."""

    spectrum: Measured[Spectrum] = field(default_factory=Measured)
    trace: Measured[HessianTrace] = field(default_factory=Measured)
    sam: Measured[Ascents] = field(default_factory=Measured)
    line: Measured[Losses] = field(default_factory=Measured)
    plane: Measured[Losses] = field(default_factory=Measured)


@dataclass(frozen=True)
class Drawing:
    """Where it was measured.

    Args:
        epoch: Whose weights.
        rows: Most rows of each class.
        seed: Seed of the rows, the directions and the probes.
        float64: Whether in double precision.
    """

    epoch: Literal["kept", "last"]
    rows: int
    seed: int
    float64: bool


@dataclass(frozen=True)
class SharpnessRecord:
    """The whole file; the lists over classes have one length.

    Args:
        schema: Schema of the file.
        name: Name of the run's folder.
        label: What reports call the variant.
        seed: Seed of the run.
        source: Its data.
        loss: That it minimised.
        split: The part of the data that the rows are of.
        settings: Where it was measured.
        weights: SHA-256 of the weights.
        parameters: How many they are.
        classes: Names.
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
