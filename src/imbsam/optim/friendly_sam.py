"""Friendly-SAM: SAM along what is particular to the batch."""

from typing import Unpack

from torch import Tensor
from torch.optim import Optimizer

from imbsam.optim._sharpness_aware import Common, SharpnessAware
from imbsam.optim._terms import Term, mean_term
from imbsam.optim.friendly import Friendly


class FriendlySAM(SharpnessAware):
    """Friendly SAM (Li et al., CVPR 2024): SAM with :class:`Friendly` as its ascent.

    Costs two forward-backwards of every row, and a running mean of the gradient in memory.

    Args:
        base: Any ``torch.optim.Optimizer`` instance; it makes the step.
        rho: Neighbourhood size; 0.05 in the official class, 0.2 in its script.
        sigma: See :class:`Friendly`.
        decay: See :class:`Friendly`; ``lmbda`` in the official code.
        common: See :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        sigma: float = 1.0,
        decay: float = 0.9,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(base, rho=rho, ascent=Friendly(sigma, decay), **common)

    def terms(self, targets: Tensor) -> list[Term]:
        """SAM's."""
        return [mean_term(targets)]
