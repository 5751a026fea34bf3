"""Trace of the Hessian: the sum of its eigenvalues."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.notebook.tables import facts
from imbsam.sharpness.directions import rademacher
from imbsam.sharpness.hessian import HessianProduct
from imbsam.sharpness.surface import LossSurface


@dataclass(frozen=True)
class Trace:
    """Estimate of the trace.

    Args:
        value: Mean over the probes.
        standard_error: Standard error of the mean; None for one probe.
    """

    value: float
    standard_error: float | None

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return facts("Trace of the Hessian", [("trace", self.value), ("standard error", self.standard_error)])

    @classmethod
    def of(cls, samples: Tensor) -> "Trace":
        """Summarise the samples of the probes.

        Args:
            samples: Samples, shape ``(probes,)``.
        """
        error = float(samples.std()) / math.sqrt(len(samples)) if len(samples) > 1 else None
        return cls(float(samples.mean()), error)


def trace(surface: LossSurface, classes: Sequence[int] | None = None, *, probes: int = 10, seed: int = 0) -> Trace:
    """Estimate the trace of the Hessian of a part's loss (Hutchinson 1990).

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part; by default every class.
        probes: Number of random vectors.
        seed: Seed of the vectors.

    Returns:
        The estimate.

    Raises:
        DataError: If none of the classes has a row.
        NonFiniteError: If a product is NaN or infinite.
        OptionError: If ``probes`` is below 1.
    """
    return Trace.of(trace_samples(surface, surface.classes if classes is None else classes, probes=probes, seed=seed))


def trace_samples(surface: LossSurface, classes: Sequence[int], *, probes: int = 10, seed: int = 0) -> Tensor:
    """Compute ``v^T H v`` for random vectors v of -1 and 1, each an unbiased estimate of the trace.

    The vectors depend on the seed alone, so ``surface.mean_loss``, which weights classes by their rows, computes the
    samples of a group from those of its classes.

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part.
        probes: Number of random vectors.
        seed: Seed of the vectors.

    Returns:
        Tensor of shape ``(probes,)``, float64.

    Raises:
        DataError: If none of the classes has a row.
        NonFiniteError: If a product is NaN or infinite.
        OptionError: If ``probes`` is below 1.
    """
    if probes < 1:
        raise OptionError(f"probes must be at least 1; got {probes}.")
    product = HessianProduct(surface, classes)
    samples = []
    for probe in range(probes):
        vector = rademacher(surface, seed, probe)
        samples.append(float(vector @ product(vector)))
    return torch.tensor(samples, dtype=torch.float64)
