"""The random ascent: a direction that does not depend on the loss."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._numbers import check_number
from imbsam.optim._tensors import real_parts
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, global_norm

Sampler = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Function from the parameters to one random tensor for each, of its shape, device and dtype."""


class Random(Ascent):
    """Ascent ``e = rho * x``, with ``x`` drawn anew for each term of each step from torch's global generator.

    No gradient is needed, so no pass is spent on the direction. It is the control for every directed ascent, and the
    sampler of the Universal class. The returned loss takes a row that no pass forwards at ``w`` at ``w + e`` instead.

    Args:
        sampler: ``"sphere"`` for uniform on the unit sphere over all parameters together, ``"gaussian"`` for standard
            normal entries, ``"cube"`` for uniform entries in [-half_width, half_width], or a function of the
            parameters.
        half_width: Half the width of the cube, above 0.

    Raises:
        OptionError: If an option is unknown or out of range.
    """

    spares_passes = True

    def __init__(
        self, sampler: Literal["sphere", "gaussian", "cube"] | Sampler = "sphere", *, half_width: float = 1.0
    ) -> None:
        if not callable(sampler) and sampler not in ("sphere", "gaussian", "cube"):
            raise OptionError(f"sampler must be 'sphere', 'gaussian', 'cube' or a function; got {sampler!r}.")
        check_number("half_width", half_width, above=0)
        self.sampler = sampler
        self.half_width = half_width

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return False: no step needs the gradient."""
        return False

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``rho * x`` to the parameters."""
        params = [p for slope in slopes for p in slope.params]
        drawn = iter(self._drawn(params))
        for slope in slopes:
            for p in slope.params:
                p.add_(next(drawn), alpha=slope.rho)
        return Climbed()

    def _drawn(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        if callable(self.sampler):
            return self.sampler(params)
        drawn = [torch.empty_like(p) for p in params]
        if self.sampler == "cube":
            for x in drawn:
                real_parts(x).uniform_().mul_(2).sub_(1).mul_(self.half_width)
            return drawn
        for x in drawn:
            real_parts(x).normal_()
        if self.sampler == "sphere":
            length = global_norm(drawn)
            drawn = [x / length.to(x) for x in drawn]
        return drawn

    def __repr__(self) -> str:
        return f"Random(sampler={self.sampler!r}, half_width={self.half_width})"
