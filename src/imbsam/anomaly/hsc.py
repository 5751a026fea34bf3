"""The hypersphere classifier (Ruff et al. 2020, "Rethinking Assumptions in Deep Anomaly Detection")."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import WithLinearPath
from imbsam.anomaly.objective import Objective


class HSC(Objective):
    """Hypersphere classifier: ``h = sqrt(|z|^2 + 1) - 1`` of rows, ``-log(1 - exp(-h) + 1e-9)`` of labelled anomalies.

    The score is ``1 - exp(-h)``. The centre is 0, and the loss is a cross-entropy with the probability ``exp(-h)`` of
    being normal; it is bounded where Deep SAD's inverse distance explodes. A known normal row counts as unlabelled.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        hidden: Units of each hidden layer.
        dimensions: Dimensions of z.
    """

    rho = 0.1

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (64, 32), dimensions: int = 16) -> None:
        super().__init__()
        self.network = encoder(shape, lambda columns: WithLinearPath(columns, hidden, dimensions))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute h, shape ``(B,)``."""
        squares = self.network(rows).square().sum(dim=1)
        # sqrt(q + 1) - 1 without the cancellation at small q.
        h: Tensor = squares / ((squares + 1).sqrt() + 1)
        return h

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from h."""
        return torch.where(kinds == ANOMALY, -(1e-9 - torch.expm1(-outputs)).log(), outputs)

    def score(self, rows: Tensor) -> Tensor:
        """Return ``1 - exp(-h)``."""
        return -torch.expm1(-self.forward(rows))
