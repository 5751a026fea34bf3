"""Sharpness in the sense of sharpness-aware minimisation: the largest rise of the loss in a neighbourhood."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError, OptionError
from imbsam.notebook.tables import facts
from imbsam.sharpness.surface import LossSurface


@dataclass(frozen=True)
class Ascended:
    """Rise of the loss of a part of the classes.

    Args:
        rise: ``L(w + e) - L(w)`` at the highest point that was reached.
        loss: ``L(w)``.
        gradient_norm: ``|grad L(w)|``.
    """

    rise: float
    loss: float
    gradient_norm: float

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = [("rise of the loss", self.rise), ("loss", self.loss), ("norm of the gradient", self.gradient_norm)]
        return facts("Sharpness", rows)


def sam_sharpness(
    surface: LossSurface,
    classes: Sequence[int] | None = None,
    *,
    rho: float = 0.05,
    steps: int = 1,
    adaptive: bool = False,
    eta: float = 0.01,
) -> Ascended:
    """Estimate ``max L(w + e) - L(w)`` over ``|e| <= rho`` from below, by ascent from ``w``.

    One step is the perturbation of SAM, ``e = rho * g / |g|`` (Foret et al. 2021, eq. 2). Several steps of length
    ``2 * rho / steps`` along the normalised gradient, each projected back into the neighbourhood, climb higher where
    the surface bends. Adaptive sharpness takes the maximum over ``|e / T| <= rho`` with ``T = |w| + eta``,
    ``e = rho * T^2 g / |T g|`` (Kwon et al. 2021, eq. 7-8), which does not change when a layer is scaled and the next
    one scaled back.

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part; by default every class.
        rho: Radius, at least 0.
        steps: Number of steps of the ascent.
        adaptive: Measure distance relative to the weights.
        eta: Added to the size of each weight in adaptive sharpness.

    Returns:
        The rise, the loss and the length of the gradient. Where the gradient is zero nothing rises.

    Raises:
        DataError: If none of the classes has a row.
        NonFiniteError: If the loss or gradient is NaN or infinite.
        OptionError: If ``rho`` or ``eta`` is negative or not finite, or ``steps`` below 1.
    """
    for name, value in (("rho", rho), ("eta", eta)):
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(f"{name} must be finite and at least 0; got {value}.")
    if steps < 1:
        raise OptionError(f"steps must be at least 1; got {steps}.")
    part = surface.classes if classes is None else classes
    loss, gradient = surface.gradient(part)
    length = float(gradient.norm())
    if rho == 0:
        # The weights alone: a pass with a gradient and one without may differ in the last bit.
        return Ascended(0.0, loss, length)
    size = surface.weights.abs() + eta if adaptive else torch.ones_like(surface.weights)
    # u = e / T turns the neighbourhood into a ball; the gradient by u is T g.
    stride = rho if steps == 1 else 2 * rho / steps
    u, highest = torch.zeros_like(gradient), -math.inf
    for step in range(steps):
        u = _pulled_back(u + stride * _unit(size * gradient), rho)
        point = surface.weights + size * u
        if step + 1 < steps:
            reached, gradient = surface.gradient(part, point)
        else:
            reached = surface.loss(part, point)
        highest = max(highest, reached)
    if not math.isfinite(highest):
        raise NonFiniteError(f"the loss at distance rho = {rho:g} is {highest}. Choose a smaller rho.")
    return Ascended(highest - loss, loss, length)


def _unit(vector: Tensor) -> Tensor:
    norm = vector.norm()
    return vector / norm if norm > 0 else vector


def _pulled_back(u: Tensor, rho: float) -> Tensor:
    norm = float(u.norm())
    return u * (rho / norm) if norm > rho else u
