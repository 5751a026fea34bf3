"""Deep SVDD (Ruff et al., ICML 2018): every row close to one centre, without labels."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from imbsam.anomaly.networks import Reconstruction
from imbsam.anomaly.objective import Objective, ScaledRows, Scaling
from imbsam.anomaly.sphere import Sphere


class DeepSVDD(Objective):
    """``l = d = |phi(x) - c|^2``, the score as well. What is known of a row is ignored.

    It is Deep SAD without labels (Ruff et al. 2020), with its network, pre-training and centre.

    Args:
        columns: Of the input.
        layers: Units of each layer, see :class:`Sphere`.
    """

    least_anomalies = 0
    anomaly_share = 0.0
    scaling: ClassVar[Scaling] = "minmax"

    def __init__(self, columns: int, *, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        self.sphere = Sphere(columns, layers)

    def pretraining(self, draw: torch.Generator) -> Reconstruction:
        """The encoder with a decoder."""
        return self.sphere.auto_encoder(draw)

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Place the centre."""
        self.sphere.place_center(rows.blocks())

    def forward(self, rows: Tensor) -> Tensor:
        """d, shape ``(B,)``."""
        distances: Tensor = self.sphere(rows)
        return distances

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """D."""
        return outputs

    def score(self, rows: Tensor) -> Tensor:
        """D."""
        return self.forward(rows)
