"""GNM: every step is made at weights with noise added, which needs no gradient for its direction."""

from collections.abc import Sequence
from typing import Unpack

import torch

from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._tensors import real_parts
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope
from imbsam.optim.sam import SAM


class ClampedNoise(Ascent):
    """Ascent of GNM: ``e = rho * scale * 0.5^floor(t / halve_every) * x`` with clamped normal noise ``x``.

    The entries of ``x`` are normal of deviation 1/3, clamped to +-1.
    ``x`` is drawn anew for each term of each step from torch's global generator. No gradient is needed, so no pass is
    spent on the direction. The returned loss takes a row that no pass forwards at ``w`` at ``w + e`` instead.

    Args:
        scale: Scale of the noise, finite, at least 0.
        halve_every: Number of steps after each of which the noise is halved, at least 1; by default it never is.

    Raises:
        OptionError: If an option is out of range.
    """

    spares_passes = True

    def __init__(self, scale: float = 0.1, halve_every: int | None = None) -> None:
        check_number("scale", scale, least=0)
        if halve_every is not None:
            check_number("halve_every", halve_every, least=1, whole=True)
        self.scale = scale
        self.halve_every = halve_every

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return False: no step needs the gradient."""
        return False

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the noise to the parameters."""
        for slope in slopes:
            halvings = slope.step // self.halve_every if self.halve_every is not None else 0
            for p in slope.params:
                parts = real_parts(p)
                noise = torch.empty_like(parts).normal_(std=1 / 3).clamp_(-1, 1)
                parts.add_(noise, alpha=slope.rho * self.scale * 0.5**halvings)
        return Climbed()

    def __repr__(self) -> str:
        return f"ClampedNoise(scale={self.scale}, halve_every={self.halve_every})"


class GNM(SAM):
    """Gaussian neighbourhood minimisation (Li et al., NeurIPS 2024, arXiv:2410.21042): noise instead of an ascent.

    ``g = grad L(w + e)`` with ``e`` from :class:`ClampedNoise`. Costs one forward-backward of every row; with BatchNorm
    one more forward of every row, at the weights, for its statistics. A step returns the loss at ``w + e``.

    The authors use it for prompt tuning of a ViT on long tails, with 70 epochs and the GCL loss. Their noise is
    ``0.1 * 0.5^floor((epoch - 1) / 59)``, so it is halved once, after 59 of 70 epochs. Here steps are counted; created
    by name, the method halves the noise after the same share of them, 59/70.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size; 0.05 in the official class. No entry moves further than ``rho * scale``.
        scale: See :class:`ClampedNoise`; 0.1 in the official configuration.
        halve_every: See :class:`ClampedNoise`.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.05,
        scale: float = 0.1,
        halve_every: int | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(base, rho=rho, ascent=ClampedNoise(scale, halve_every), **common)
