"""SAM: every class gets a flat minimum."""

import torch
from torch import Tensor

from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term


class SAM(SharpnessAware):
    """Sharpness-aware minimisation (Foret et al., ICLR 2021).

    ``g = grad L(w + e)`` with ``e = rho * grad L(w) / |grad L(w)|`` and ``L`` the batch's mean loss. Costs two
    forward-backwards of every row. The arguments are those of :class:`SharpnessAware`.

    Example:
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, model=model)  # doctest: +SKIP
    """

    def terms(self, targets: Tensor) -> list[Term]:
        """One term: the mean loss, perturbed along its own gradient."""
        mean = targets.new_full((len(targets),), 1 / len(targets), dtype=torch.float64)
        return [Term(mean, ascent=mean)]
