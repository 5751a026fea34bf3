"""The base optimizer itself, in the family's face: the control of every comparison."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term


class Plain(SharpnessAware):
    """``g = grad L(w)``: one pass, the base optimizer's step bit for bit.

    Args:
        base: Any ``torch.optim.Optimizer`` instance; it makes the step.
        model: The model, as for the other methods.

    Example:
        >>> optimizer = Plain(torch.optim.SGD(model.parameters(), lr=0.1))  # doctest: +SKIP
    """

    def __init__(self, base: Optimizer, *, model: nn.Module | None = None) -> None:
        super().__init__(base, rho=0.0, model=model)

    def terms(self, targets: Tensor) -> list[Term]:
        """One term: the mean loss, unperturbed."""
        return [Term(targets.new_full((len(targets),), 1 / len(targets), dtype=torch.float64))]
