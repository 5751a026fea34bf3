"""The friendly ascent: climb along the part of the gradient that is particular to this batch."""

from collections.abc import Sequence

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, checked_damping, global_norm


class Friendly(Ascent):
    """Friendly ascent, ``e = rho * d / |d|`` with ``d = g - sigma * m`` (Friendly-SAM, Li et al., CVPR 2024).

    Then ``m <- decay * m + (1 - decay) * g``.
    ``m`` estimates the full gradient. It starts as the first gradient, and the first step climbs that gradient, as
    plain SAM does. A skipped step leaves ``m`` unchanged. Under a method with several terms each term has its own
    ``m``.

    Args:
        sigma: Share of ``m`` that is subtracted, finite; 1 in the official code, 0 is the plain gradient.
        decay: Decay of the average, in [0, 1); 0.9 in the official class (0.6 in its script).
        damping: d of :class:`Gradient`.

    Raises:
        OptionError: If an option is out of range.
    """

    remembers = True

    def __init__(self, sigma: float = 1.0, decay: float = 0.9, *, damping: float = 0.0) -> None:
        check_number("sigma", sigma)
        check_number("decay", decay, least=0, below=1)
        self.sigma = sigma
        self.decay = decay
        self.damping = checked_damping(damping)

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters, and return the new average."""
        kept: dict[Tensor, Tensor] = {}
        directions = []
        for slope in slopes:
            grads = [g.to_dense() if g.is_sparse else g for g in slope.grads]
            ahead = []
            for p, g in zip(slope.params, grads, strict=True):
                mean = memory.get(p)
                kept[p] = g.clone() if mean is None else mean.lerp(g, 1 - self.decay)
                ahead.append(g if mean is None else g.sub(mean, alpha=self.sigma))
            directions.append(Slope(slope.rho, slope.params, ahead, slope.names))
        norm = global_norm([g for slope in directions for g in slope.grads])
        add_normalised(directions, norm, self.damping)
        return Climbed(norm, kept)

    def __repr__(self) -> str:
        return f"Friendly(sigma={self.sigma}, decay={self.decay}, damping={self.damping})"
