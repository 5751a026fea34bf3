"""LookSAM: SAM that makes its second pass only every few steps."""

from collections.abc import Callable
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

ACROSS = "looksam"
"""Name of the method's memory: the part of the last SAM gradient that is orthogonal to the plain one."""

TINY = 1e-8

Rule = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


class LookSAM(SharpnessAware):
    """LookSAM (Liu et al., CVPR 2022, algorithm 1): one SAM step, then ``interval - 1`` steps of one pass.

    A SAM step keeps ``g_v = g_s - <g_s, g> / |g|^2 * g``, with ``g_s = grad L(w + e)`` and ``g = grad L(w)``. The steps
    between use ``g + alpha * |g| / (|g_v| + 1e-8) * g_v``; with rho 0 nothing is added.
    Costs ``1 + 1 / interval`` forward-backwards of every row.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size.
        interval: k, the number of steps from one SAM step to the next, at least 1; 1 is SAM. Public implementations
            use 10, which diverges on small noisy problems.
        alpha: Weight of the kept part, finite.
        per_tensor: Take norms and products of each parameter alone, as public implementations do, instead of over
            all parameters together.
        ascent: Direction of the perturbation.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    keeps_ascents = True
    keeps = (ACROSS,)

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.1,
        interval: int = 5,
        alpha: float = 0.7,
        per_tensor: bool = False,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("interval", interval, least=1, whole=True)
        check_number("alpha", alpha)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.interval = interval
        self.alpha = alpha
        self.per_tensor = per_tensor

    def terms(self, targets: Tensor) -> list[Term]:
        """Return SAM's term every ``interval`` steps, else the mean loss unperturbed."""
        is_sam = (self.steps - self.sharp_from) % self.interval == 0
        mean = self._by_size(targets.shape[0])
        return [mean.perturbed if is_sam else mean.still]

    def combine(self, parts: Parts) -> Combined | None:
        """Keep the orthogonal part after a SAM step, and add it in the steps between."""
        if not any(group["rho"] for group in self.param_groups):
            return None
        step = parts.gradient("step")
        if "ascent 0" in parts:
            across = self._each(parts.gradient("ascent 0"), step, _across)
            return Combined(memory={ACROSS: dict(zip(parts.params, across, strict=True))})
        kept = self.memory.get(ACROSS, {})
        if not kept:
            return None
        across = [kept.get(p, torch.zeros_like(g)) for p, g in zip(parts.params, step, strict=True)]
        return Combined(self._each(step, across, self._added))

    def _added(self, plain: list[Tensor], across: list[Tensor]) -> list[Tensor]:
        scale = self.alpha * dot(plain, plain).sqrt() / (dot(across, across).sqrt() + TINY)
        return [g + scale.to(g) * v for g, v in zip(plain, across, strict=True)]

    def _each(self, first: list[Tensor], second: list[Tensor], rule: Rule) -> list[Tensor]:
        if not self.per_tensor:
            return rule(first, second)
        return [rule([a], [b])[0] for a, b in zip(first, second, strict=True)]


def _across(plain: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
    square = dot(plain, plain)
    along = torch.where(square > 0, dot(perturbed, plain) / square, 0.0)
    return [g_s - along.to(g) * g for g, g_s in zip(plain, perturbed, strict=True)]
