"""Ascent along the base optimizer's momentum, which exists already, so that no pass is spent on the direction."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm

KEYS = ("momentum_buffer", "exp_avg")
"""Names of the momentum in the state of torch's optimizers: SGD, RMSprop and Muon, and Adam and its variants."""


class Momentum(Ascent):
    """Ascent ``e = -rho * v / |v|``, ``v`` the base optimizer's momentum (MSAM, Becker et al. 2024, arXiv:2401.12033).

    The minus sign moves the weights further along the last steps, to where the loss rises again across a narrow valley;
    :class:`Reuse` climbs a gradient, which points the other way. Each row is forwarded once. The returned loss takes a
    row that no pass forwards at ``w`` at ``w + e`` instead. In the first step the base has no momentum yet, and nothing
    is perturbed. The norm is over all parameters that have a momentum.

    Under a method for the tail the momentum is still that of all rows: the tail's loss is made flat along the path of
    the weights, and each row is forwarded once.

    Raises:
        OptionError: When climbing, if the base keeps no momentum.
    """

    spares_passes = True

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return False: no step needs the gradient."""
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
    """Return the parameters of a slope that have a momentum, and ``-v`` of each."""
    held = {p: v for p in slope.params if p in slope.state and (v := momentum_of(slope.state[p])) is not None}
    return Slope(slope.rho, list(held), [-v for v in held.values()], [])


def _refuse_without(slopes: Sequence[Slope]) -> None:
    """Raise an error where no momentum will ever exist; before the first gradient there is no state at all."""
    has_state = any(p in slope.state and slope.state[p] for slope in slopes for p in slope.params)
    if has_state or all(slope.options.get("momentum") == 0 for slope in slopes):
        raise OptionError(
            "the ascent follows the momentum, but the base optimizer keeps none: give it one, for "
            f"example SGD(..., momentum=0.9), or take AdamW. Its state has neither {' nor '.join(KEYS)}."
        )


def momentum_of(state: Mapping[str, object]) -> Tensor | None:
    """Return the momentum in an optimizer's state of a parameter, of its shape; ``None`` if there is none.

    Args:
        state: State of one parameter, by name.
    """
    found = (state.get(key) for key in KEYS)
    return next((v for v in found if isinstance(v, Tensor)), None)
