"""The ascent of VaSSO: climb along a moving average of the ascent gradients, which is less noisy than one gradient."""

from collections.abc import Sequence

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, checked_damping, global_norm


class VarianceSuppressed(Ascent):
    """Ascent of VaSSO: ``e = rho * d / (|d| + damping)`` with ``d <- (1 - theta) * d + theta * g``.

    Source: Li and Giannakis, NeurIPS 2023.
    ``d`` starts as the first gradient, as in the official code. A skipped step leaves ``d`` unchanged. Under a method
    with several terms each term has its own ``d``, so that the head does not dominate that of the tail; a batch without
    a row of the term leaves its ``d`` unchanged.

    Args:
        theta: Weight of the new gradient, above 0, at most 1; 0.9 in the official code, 1 is :class:`Gradient`.
        damping: Damping, like d of :class:`Gradient`; the official code divides by ``|d| + 1e-7``.

    Raises:
        OptionError: If an option is out of range.
    """

    remembers = True

    def __init__(self, theta: float = 0.9, *, damping: float = 0.0) -> None:
        check_number("theta", theta, above=0, most=1)
        self.theta = theta
        self.damping = checked_damping(damping)

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters, and return the new average."""
        kept: dict[Tensor, Tensor] = {}
        averaged = []
        for slope in slopes:
            for p, g in zip(slope.params, slope.grads, strict=True):
                dense = g.to_dense() if g.is_sparse else g
                kept[p] = memory[p].lerp(dense, self.theta) if p in memory else dense.clone()
            # Copied: what is kept must outlive the step, and add_normalised overwrites it.
            averaged.append(Slope(slope.rho, slope.params, [kept[p].clone() for p in slope.params], slope.names))
        norm = global_norm([d for slope in averaged for d in slope.grads])
        add_normalised(averaged, norm, self.damping)
        return Climbed(norm, kept)

    def __repr__(self) -> str:
        return f"VarianceSuppressed(theta={self.theta}, damping={self.damping})"
