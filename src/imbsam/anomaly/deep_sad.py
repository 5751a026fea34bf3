"""Deep SAD (Ruff et al., ICLR 2020): unlabelled rows close to a centre, labelled anomalies far from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY, UNLABELLED
from imbsam.anomaly.sphere import Sphere
from imbsam.errors import OptionError

EPS = 1e-6


class DeepSAD(Sphere):
    """Deep SAD: ``l = d`` of unlabelled rows, ``eta * (d + 1e-6)^s`` of others; ``d = |phi(x) - c|^2`` is the score.

    ``s`` is 1 for a known normal row and -1 for a known anomaly (section 3 and the released code).

    Args:
        shape: Shape of a row, see :class:`Objective`.
        eta: Weight of labelled rows, above 0.
        layers: Units of each dense layer, see :class:`Sphere`.

    Raises:
        OptionError: If ``eta`` is not above 0.
    """

    rho = 0.05

    def __init__(self, shape: Sequence[int], *, eta: float = 1.0, layers: Sequence[int] | None = None) -> None:
        super().__init__(shape, layers)
        if not eta > 0:
            raise OptionError(f"eta must be above 0; got {eta}.")
        self.eta = eta

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from d."""
        known = outputs + EPS
        labelled = self.eta * torch.where(kinds == ANOMALY, 1 / known, known)
        return torch.where(kinds == UNLABELLED, outputs, labelled)
