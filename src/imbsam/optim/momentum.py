"""The ascent along the momentum: the base optimizer has it already, so that no pass is spent on the direction."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm

KEYS = ("momentum_buffer", "exp_avg")
"""What the momentum goes by in the state of torch's optimizers: of SGD, RMSprop and Muon, and of Adam and its like."""


class Momentum(Ascent):
    """``e = -rho * v / |v|`` with ``v`` the base optimizer's momentum (Becker et al. 2024, arXiv:2401.12033, MSAM).

    With the minus sign: the loss is looked at a little further along the way of the last steps, where it rises again
    across a narrow valley; :class:`Reuse` climbs a gradient, which points the other way. Each row is forwarded once. A
    row that no pass forwards at ``w`` enters the returned loss as it is at ``w + e``. Until the base has a momentum, in
    the first step, nothing is perturbed. The norm is over all parameters that have one.

    Under a method for the tail the momentum is still that of all rows: the tail's loss is made flat along the way that
    the weights take, at one row a row.

    Raises:
        OptionError: When climbing, if the base keeps no momentum.
    """

    spares_passes = True

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Never."""
        return False

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``-rho * v / |v|`` to the parameters."""
        along = [slope for slope in map(_against, slopes) if slope.params]
        if not along:
            _refuse_without(slopes)
            return Climbed()
        norm = global_norm([v for slope in along for v in slope.grads])
        add_normalised(along, norm, 0.0)
        return Climbed(norm)

    def __repr__(self) -> str:
        return "Momentum()"


def _against(slope: Slope) -> Slope:
    """The parameters of a slope that have a momentum, and ``-v`` of each."""
    held = {p: v for p in slope.params if p in slope.state and (v := momentum_of(slope.state[p])) is not None}
    return Slope(slope.rho, list(held), [-v for v in held.values()], [])


def _refuse_without(slopes: Sequence[Slope]) -> None:
    """Raise where no momentum will come: before the first gradient there is none, and no state either."""
    has_state = any(p in slope.state and slope.state[p] for slope in slopes for p in slope.params)
    if has_state or all(slope.options.get("momentum") == 0 for slope in slopes):
        raise OptionError(
            "the ascent goes along the momentum, and the base optimizer keeps none: give it one, as "
            f"SGD(..., momentum=0.9), or take AdamW. Its state has neither {' nor '.join(KEYS)}."
        )


def momentum_of(state: Mapping[str, object]) -> Tensor | None:
    """The momentum in what an optimizer keeps for a parameter, of its shape; ``None`` where it has none.

    Args:
        state: Of one parameter, by name.
    """
    found = (state.get(key) for key in KEYS)
    return next((v for v in found if isinstance(v, Tensor)), None)
