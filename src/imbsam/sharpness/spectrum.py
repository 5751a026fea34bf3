"""Eigenvalues of the Hessian: the largest, the smallest, and their density."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.notebook.tables import table
from imbsam.sharpness.directions import rademacher
from imbsam.sharpness.hessian import HessianProduct
from imbsam.sharpness.lanczos import Tridiagonal, lanczos
from imbsam.sharpness.surface import LossSurface


@dataclass(frozen=True)
class Extremes:
    """Largest and smallest eigenvalue; a clearly negative one is the sign of a saddle.

    Args:
        largest: The largest Ritz value; never above the largest eigenvalue.
        smallest: The smallest Ritz value; never below the smallest eigenvalue.
        largest_residual: ``|H y - theta y|`` of the largest Ritz value; an eigenvalue lies within this distance.
        smallest_residual: ``|H y - theta y|`` of the smallest Ritz value.
        steps: Number of Hessian products made.
        converged: Whether both residuals are within the tolerance.
        vectors: Unit eigenvectors of the largest and the smallest, shape ``(P,)`` each; None unless asked for.
    """

    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    steps: int
    converged: bool
    vectors: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = [
            ("largest", self.largest, self.largest_residual),
            ("smallest", self.smallest, self.smallest_residual),
        ]
        state = "converged" if self.converged else "not converged"
        return table(f"Eigenvalues, {state} after {self.steps} products", ["", "eigenvalue", "residual"], rows)


@dataclass(frozen=True, repr=False)
class SpectralDensity:
    """Density of the eigenvalues as weighted points, whose weights sum to one.

    Args:
        nodes: Eigenvalues, shape ``(K,)``, float64.
        weights: Share of the eigenvalues near each, shape ``(K,)``, float64.
    """

    nodes: Tensor
    weights: Tensor

    def __repr__(self) -> str:
        low, high = float(self.nodes.min()), float(self.nodes.max())
        return f"SpectralDensity({len(self.nodes)} nodes from {low:.4g} to {high:.4g})"

    def at(self, points: Tensor, *, width: float) -> Tensor:
        """Compute the density, each node widened to a Gaussian.

        Args:
            points: Eigenvalues, shape ``(n,)``.
            width: Standard deviation of the Gaussians, above 0.

        Returns:
            Density, shape ``(n,)``, float64; its integral is one.
        """
        apart = (points.double()[:, None] - self.nodes) / width
        return (-0.5 * apart**2).exp() @ self.weights / (width * math.sqrt(2 * math.pi))


def extreme_eigenvalues(
    surface: LossSurface,
    classes: Sequence[int] | None = None,
    *,
    steps: int = 100,
    tolerance: float = 1e-3,
    vectors: bool = False,
    seed: int = 0,
) -> Extremes:
    """Find the largest and the smallest eigenvalue of the Hessian of a part's loss.

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part; by default every class.
        steps: Largest number of Hessian products.
        tolerance: Stop when both residuals are within this share of the largest absolute eigenvalue.
        vectors: Whether to return the eigenvectors.
        seed: Seed of the start vector.

    Returns:
        The eigenvalues, and their residuals.

    Raises:
        DataError: If none of the classes has a row.
        NonFiniteError: If a product is NaN or infinite.
        OptionError: If ``steps`` is below 1 or ``tolerance`` negative.
    """
    _check(tolerance, 1)
    found = lanczos(
        HessianProduct(surface, _part(surface, classes)),
        rademacher(surface, seed, 0),
        steps=steps,
        stop=lambda so_far: _extremes(so_far, tolerance).converged,
    )
    return _extremes(found, tolerance, vectors=vectors)


def spectrum(
    surface: LossSurface,
    classes: Sequence[int] | None = None,
    *,
    steps: int = 30,
    probes: int = 1,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> tuple[Extremes, SpectralDensity]:
    """Compute extreme eigenvalues and spectral density of the Hessian of a part's loss, from the same products.

    Stochastic Lanczos quadrature (Ubaru et al. 2017; Ghorbani et al. 2019): the Ritz values of a random start vector
    are nodes of a quadrature of the density, the squared first components of T's eigenvectors its weights; the mean
    over probes is unbiased in the moments up to degree ``2 * steps - 1``.

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part; by default every class.
        steps: Number of Hessian products for each probe.
        probes: Number of start vectors; the extremes come from the one that reaches farthest.
        tolerance: Tolerance of the extremes, see :func:`extreme_eigenvalues`; it decides what counts as converged, and
            stops nothing.
        seed: Seed of the start vectors.

    Returns:
        The extremes, without vectors, and the density.

    Raises:
        DataError: If none of the classes has a row.
        NonFiniteError: If a product is NaN or infinite.
        OptionError: If ``steps`` or ``probes`` is below 1 or ``tolerance`` negative.
    """
    _check(tolerance, probes)
    product = HessianProduct(surface, _part(surface, classes))
    found = []
    for probe in range(probes):
        run = lanczos(product, rademacher(surface, seed, probe), steps=steps)
        values, vectors, _ = run.ritz()
        found.append((_extremes(run, tolerance), values, vectors[0] ** 2 / probes))
    high = max((e for e, *_ in found), key=lambda e: e.largest)
    low = min((e for e, *_ in found), key=lambda e: e.smallest)
    extremes = Extremes(
        high.largest,
        low.smallest,
        high.largest_residual,
        low.smallest_residual,
        sum(e.steps for e, *_ in found),
        _within(high.largest_residual, low.smallest_residual, high.largest, low.smallest, tolerance),
    )
    return extremes, SpectralDensity(torch.cat([v for _, v, _ in found]), torch.cat([w for *_, w in found]))


def _part(surface: LossSurface, classes: Sequence[int] | None) -> Sequence[int]:
    return surface.classes if classes is None else classes


def _check(tolerance: float, probes: int) -> None:
    if not tolerance >= 0:
        raise OptionError(f"tolerance must be at least 0; got {tolerance}.")
    if probes < 1:
        raise OptionError(f"probes must be at least 1; got {probes}.")


def _extremes(run: Tridiagonal, tolerance: float, *, vectors: bool = False) -> Extremes:
    values, coefficients, residuals = run.ritz()
    smallest, largest = float(values[0]), float(values[-1])
    low, high = float(residuals[0]), float(residuals[-1])
    both = (run.vector(coefficients[:, -1]), run.vector(coefficients[:, 0])) if vectors else None
    return Extremes(largest, smallest, high, low, run.steps, _within(high, low, largest, smallest, tolerance), both)


def _within(high: float, low: float, largest: float, smallest: float, tolerance: float) -> bool:
    return max(high, low) <= tolerance * max(abs(largest), abs(smallest))
