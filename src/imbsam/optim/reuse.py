"""The reused ascent: climb along the gradient of an earlier step, so that no pass is spent on the direction."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, checked_damping, global_norm


class Reuse(Ascent):
    """Ascent ``e = rho * m / (|m| + d)``, with ``m`` an average of the term's gradients at ``w + e`` in earlier steps.

    After each step ``m <- decay * m + (1 - decay) * grad L_term(w + e)``. The step computes that gradient anyway, so
    each row is forwarded once. ``m`` starts as the first such gradient; the step before it, and every ``refresh``-th
    step, climbs the gradient at ``w`` as :class:`Gradient` does. It is an approximation of this library: no paper
    proposes it for the tail. The returned loss takes a row that no pass forwards at ``w`` at ``w + e`` instead. Under a
    method with several terms each term has its own ``m``, of the size of the weights.

    Args:
        refresh: Number of steps from one fresh direction to the next; 1 is :class:`Gradient`, and with 0 only the first
            direction is fresh.
        decay: Decay of the average, in [0, 1); 0 keeps only the last gradient.
        damping: d of :class:`Gradient`.

    Raises:
        OptionError: If an option is out of range.
    """

    spares_passes = True
    learns = True
    remembers = True

    def __init__(self, refresh: int = 0, decay: float = 0.0, *, damping: float = 0.0) -> None:
        check_number("refresh", refresh, least=0, whole=True)
        check_number("decay", decay, least=0, below=1)
        self.refresh = refresh
        self.decay = decay
        self.damping = checked_damping(damping)

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return True in the first step, and in every ``refresh``-th."""
        return not memory or (self.refresh > 0 and step % self.refresh == 0)

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters."""
        if not any(slope.grads for slope in slopes):
            slopes = [remembered for slope in slopes if (remembered := _remembered(slope, memory)).params]
        norm = global_norm([g for slope in slopes for g in slope.grads])
        add_normalised(slopes, norm, self.damping)
        return Climbed(norm)

    def learn(self, gradient: Mapping[Tensor, Tensor], memory: Memory) -> Memory:
        """Return the new average."""
        if not self.decay:
            return gradient
        return {p: memory[p].lerp(g, 1 - self.decay) if p in memory else g for p, g in gradient.items()}

    def __repr__(self) -> str:
        return f"Reuse(refresh={self.refresh}, decay={self.decay}, damping={self.damping})"


def _remembered(slope: Slope, memory: Memory) -> Slope:
    params = [p for p in slope.params if p in memory]
    # Copied: what the rule remembers must outlive the step, and add_normalised overwrites it.
    return Slope(slope.rho, params, [memory[p].clone() for p in params], [])
