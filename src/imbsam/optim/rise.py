"""The ascent by rise: as far as the loss rises by so much, instead of as far as a length."""

from collections.abc import Sequence

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm


class Rise(Ascent):
    """``e = min(1, rise / r) * rho * g / |g|``, where ``r = rho * |g|`` is the rise of the plain step to first order.

    The gradient of a tail that is not learnt is long, and a fixed rho throws its loss far up; that of a tail learnt by
    heart is short, and a fixed rho hardly tests it. Here a perturbation is short while the tail is steep and grows up
    to rho as it flattens: give a larger rho than to the plain rule, 0.5 for 0.1. Of this library; measured in
    docs/evidence.md.

    Args:
        rise: At most so much, to first order, does the term's part of the batch's mean loss rise; above 0.

    Raises:
        OptionError: If ``rise`` is not above 0 or not finite.
    """

    def __init__(self, rise: float = 0.01) -> None:
        check_number("rise", rise, above=0)
        self.rise = rise

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``min(1, rise / r) * rho * g / |g|`` to the parameters."""
        norm = global_norm([g for slope in slopes for g in slope.grads])
        add_normalised(slopes, norm * (_first_order(slopes, norm) / self.rise).clamp(min=1.0), 0.0)
        return Climbed(norm)

    def __repr__(self) -> str:
        return f"Rise(rise={self.rise})"


def _first_order(slopes: Sequence[Slope], norm: Tensor) -> Tensor:
    """``<g, e>`` of the plain step: over groups with a rho each, the sum of ``rho_k * |g_k|^2 / |g|``."""
    if len({slope.rho for slope in slopes}) == 1:
        return norm * slopes[0].rho
    # Of a gradient that is zero this is no number, and add_normalised does not move by one.
    rises = [global_norm(slope.grads).to(norm.device).square() * slope.rho for slope in slopes]
    return sum(rises[1:], start=rises[0]) / norm
