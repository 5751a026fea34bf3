"""GSAM: SAM that also lowers the gap between the perturbed loss and the loss."""

from typing import Unpack

import torch
from torch import Tensor

from imbsam.optim._gradients import Combined, Parts
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term
from imbsam.optim.ascent import Ascent, dot


class GSAM(SharpnessAware):
    """Surrogate-gap guided SAM (Zhuang et al., ICLR 2022, algorithm 1).

    ``g_p - alpha * g_perp`` with ``g_p = grad L(w + e)`` and ``g_perp = g - (<g, g_p> / |g_p|^2) g_p`` the part of
    ``g = grad L(w)`` across it. With alpha 0 it is SAM. Costs two forward-backwards of every row and one more copy of
    the gradient. In the paper rho follows the learning rate: ``Schedule(optimizer, "rho", following(optimizer, ...))``.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size.
        alpha: Weight of the surrogate gap, finite; 0.4 in the official example.
        ascent: Direction of the perturbation; :class:`Adaptive` in the official example.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    keeps_ascents = True

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("alpha", alpha)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.alpha = alpha

    def terms(self, targets: Tensor) -> list[Term]:
        """Return SAM's term."""
        return [self._by_size(targets.shape[0]).perturbed]

    def combine(self, parts: Parts) -> Combined | None:
        """Subtract ``alpha`` times the part of the plain gradient that is orthogonal to the perturbed gradient."""
        if "ascent 0" not in parts:
            return None
        plain, perturbed = parts.gradient("ascent 0"), parts.gradient("step")
        square = dot(perturbed, perturbed)
        along = torch.where(square > 0, dot(plain, perturbed) / square, 0.0)
        combined = [g_p - self.alpha * (g - along.to(g) * g_p) for g, g_p in zip(plain, perturbed, strict=True)]
        return Combined(combined)
