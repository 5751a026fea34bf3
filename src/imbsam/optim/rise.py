"""The ascent by rise: climb until the loss has risen by a given amount, instead of by a given length."""

import math
from collections.abc import Sequence

from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm


class Rise(Ascent):
    """The ascent of LE-SAM, ``e = min(sigma / |g|, rho) * g / |g|`` (Wang et al., ICML 2026, arXiv:2605.10183).

    The perturbation goes as far as the loss rises by sigma to first order, ``<g, e> = sigma``, and at most to length
    rho. A tail that is not learned yet has a large gradient, and a fixed rho raises its loss far; a tail that the
    network has memorised has a small gradient, and a fixed rho hardly changes its loss. By this rule the perturbation
    is short while the tail's loss is steep, and grows up to rho as it flattens. So choose rho larger than for the plain
    rule, 0.5 where that has 0.1.

    The rule is that of LE-SAM, which perturbs for all classes and was published before this library had it. New here
    are its use in a method for the tail, where ``g`` is the gradient of the tail's part of the loss alone, and the
    measurements in docs/evidence.md. If groups have different rho, the plain step of :class:`Gradient` is shortened as
    a whole.

    Args:
        rise: sigma, above 0: largest rise, to first order, of the term's part of the batch's mean loss.
        anneal_from: Number of steps before sigma falls, along half a cosine as in LE-SAM's code; by default it never
            does.
        anneal_to: Number of steps until sigma is 0, at least ``anneal_from``; from then on nothing is perturbed.

    Raises:
        OptionError: If ``rise`` is not above 0 or not finite, only one of the two others is given, or they are not
            whole numbers in this order.
    """

    def __init__(self, rise: float = 0.01, *, anneal_from: int | None = None, anneal_to: int | None = None) -> None:
        check_number("rise", rise, above=0)
        _check_annealing(anneal_from, anneal_to)
        self.rise = rise
        self.anneal_from = anneal_from
        self.anneal_to = anneal_to

    def at(self, step: int) -> float:
        """Return sigma at a step.

        Args:
            step: Number of steps made so far.
        """
        if self.anneal_from is None or self.anneal_to is None or step <= self.anneal_from:
            return self.rise
        if step >= self.anneal_to:
            return 0.0
        gone = (step - self.anneal_from) / (self.anneal_to - self.anneal_from)
        return self.rise * (1 + math.cos(math.pi * gone)) / 2

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``min(1, sigma / r) * rho * g / |g|``, with ``r`` the rise of the plain step, to the parameters."""
        norm = global_norm([g for slope in slopes for g in slope.grads])
        rise = self.at(slopes[0].step)
        if rise:
            add_normalised(slopes, norm * (_first_order(slopes, norm) / rise).clamp(min=1.0), 0.0)
        return Climbed(norm)

    def __repr__(self) -> str:
        falling = "" if self.anneal_from is None else f", anneal_from={self.anneal_from}, anneal_to={self.anneal_to}"
        return f"Rise(rise={self.rise}{falling})"


def _check_annealing(anneal_from: int | None, anneal_to: int | None) -> None:
    """Check that both steps are given, or neither, and that the second is not before the first."""
    if anneal_from is None and anneal_to is None:
        return
    if anneal_from is None or anneal_to is None:
        raise OptionError(
            "anneal_from and anneal_to go together: the steps made when the rise begins to fall, and when it is 0; "
            f"got {anneal_from} and {anneal_to}."
        )
    check_number("anneal_from", anneal_from, least=0, whole=True)
    check_number("anneal_to", anneal_to, least=anneal_from, whole=True)


def _first_order(slopes: Sequence[Slope], norm: Tensor) -> Tensor:
    """Compute ``<g, e>`` of the plain step; over groups with a rho each, the sum of ``rho_k * |g_k|^2 / |g|``."""
    if len({slope.rho for slope in slopes}) == 1:
        return norm * slopes[0].rho
    # Of a gradient that is zero this is no number, and add_normalised does not move by one.
    rises = [global_norm(slope.grads).to(norm.device).square() * slope.rho for slope in slopes]
    return sum(rises[1:], start=rises[0]) / norm
