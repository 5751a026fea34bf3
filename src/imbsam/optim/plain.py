"""The base optimizer itself, in the family's face: the control of every comparison."""

from typing import Unpack

from torch import Tensor

from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term


class Plain(SharpnessAware):
    """``g = grad L(w)``: one pass, the base optimizer's step bit for bit.

    Args:
        base: Any ``torch.optim.Optimizer`` instance, or a list of several; it makes the step.
        common: See :class:`SharpnessAware`.

    Example:
        >>> optimizer = Plain(torch.optim.SGD(model.parameters(), lr=0.1))  # doctest: +SKIP
    """

    def __init__(self, base: Base, **common: Unpack[Common]) -> None:
        super().__init__(base, rho=0.0, **common)

    def terms(self, targets: Tensor) -> list[Term]:
        """One term: the mean loss, unperturbed."""
        return [self._by_size(targets.shape[0]).still]
