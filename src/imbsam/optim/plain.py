"""The base optimizer alone, with the interface of the methods: the control of every comparison."""

from typing import Unpack

from torch import Tensor

from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term


class Plain(SharpnessAware):
    """Base optimizer alone, ``g = grad L(w)``: one pass, and the base optimizer's step bit for bit.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        common: Further options, see :class:`SharpnessAware`.

    Example:
        >>> optimizer = Plain(torch.optim.SGD(model.parameters(), lr=0.1))  # doctest: +SKIP
    """

    def __init__(self, base: Base, **common: Unpack[Common]) -> None:
        super().__init__(base, rho=0.0, **common)

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss, unperturbed, as the only term."""
        return [self._by_size(targets.shape[0]).still]
