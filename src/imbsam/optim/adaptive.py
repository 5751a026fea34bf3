"""The adaptive ascent: each parameter may move in proportion to its own size."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._numbers import check_number
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, checked_damping, global_norm


class Adaptive(Ascent):
    """Adaptive ascent, ``e = rho * T^2 g / (|T g| + d)`` with ``T = |w| + eta`` (Kwon et al., ICML 2021, eq. 7-8).

    Unlike the plain gradient's, this neighbourhood is unchanged when a layer is scaled and the next one scaled back.

    Args:
        eta: Added to the size of each weight, at least 0; 0.01 in the official class, 0 on its command line.
        scope: ``"weights"`` sets T to 1 for parameters whose name has no ``"weight"`` in it, as in the official code;
            the names come from ``model=`` or from parameters given by name. ``"all"`` treats every parameter alike.
        damping: d, see :class:`Gradient`; 0 in the paper.

    Raises:
        OptionError: If an option is out of range; when climbing, if ``"weights"`` finds a parameter without a name.
    """

    def __init__(
        self, eta: float = 0.01, *, scope: Literal["weights", "all"] = "weights", damping: float = 0.0
    ) -> None:
        check_number("eta", eta, least=0)
        if scope not in ("weights", "all"):
            raise OptionError(f"scope must be 'weights' or 'all'; got {scope!r}.")
        self.eta = eta
        self.scope = scope
        self.damping = checked_damping(damping)

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``rho * T^2 g / (|T g| + d)`` to the parameters."""
        sizes = [[self._size(p, name) for p, name in zip(s.params, s.names, strict=True)] for s in slopes]
        scaled = [Slope(s.rho, s.params, _times(s.grads, size), s.names) for s, size in zip(slopes, sizes, strict=True)]
        norm = global_norm([g for slope in scaled for g in slope.grads])
        twice = [Slope(s.rho, s.params, _times(s.grads, size), s.names) for s, size in zip(scaled, sizes, strict=True)]
        add_normalised(twice, norm, self.damping)
        return Climbed(norm)

    def _size(self, p: Tensor, name: str | None) -> Tensor | None:
        """Return T; ``None`` stands for 1."""
        if self.scope == "all":
            return p.abs().add_(self.eta)
        if name is None:
            raise OptionError(
                "Adaptive(scope='weights') needs the parameters' names: give the optimizer the model (model=model), "
                "or the base optimizer named parameters; scope='all' needs no names."
            )
        return p.abs().add_(self.eta) if "weight" in name else None

    def __repr__(self) -> str:
        return f"Adaptive(eta={self.eta}, scope={self.scope!r}, damping={self.damping})"


def _times(grads: Sequence[Tensor], sizes: Sequence[Tensor | None]) -> list[Tensor]:
    pairs = zip(grads, sizes, strict=True)
    return [g if size is None else torch.mul(g, size) for g, size in pairs]
