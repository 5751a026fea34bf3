"""The base optimizer itself, in the family's face: the control of every comparison."""

import torch
from torch import Tensor

from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term


class Plain(SharpnessAware):
    """``g = grad L(w)``: one pass, the base optimizer's step bit for bit. The arguments are those of SharpnessAware.

    Example:
        >>> optimizer = Plain(torch.optim.SGD(model.parameters(), lr=0.1))  # doctest: +SKIP
    """

    def terms(self, targets: Tensor) -> list[Term]:
        """One term: the mean loss, unperturbed."""
        return [Term(targets.new_full((len(targets),), 1 / len(targets), dtype=torch.float64))]
