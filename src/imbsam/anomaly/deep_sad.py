"""Deep SAD (Ruff et al., ICLR 2020): unlabelled rows close to a centre, labelled anomalies far from it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY, UNLABELLED
from imbsam.anomaly.networks import Reconstruction
from imbsam.anomaly.objective import Objective, ScaledRows, Scaling
from imbsam.anomaly.sphere import Sphere
from imbsam.errors import OptionError

EPS = 1e-6


class DeepSAD(Objective):
    """``l = d`` of unlabelled rows, ``eta * (d + 1e-6)^s`` of others; ``d = |phi(x) - c|^2`` is the score.

    ``s`` is 1 for a known normal row and -1 for a known anomaly (section 3 and the released code).

    Args:
        columns: Of the input.
        eta: Weight of labelled rows, above 0.
        layers: Units of each layer, see :class:`Sphere`.

    Raises:
        OptionError: If ``eta`` is not above 0.
    """

    rho = 0.05
    scaling: ClassVar[Scaling] = "minmax"

    def __init__(self, columns: int, *, eta: float = 1.0, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        if not eta > 0:
            raise OptionError(f"eta must be above 0; got {eta}.")
        self.eta = eta
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
        """As above, of d."""
        known = outputs + EPS
        labelled = self.eta * torch.where(kinds == ANOMALY, 1 / known, known)
        return torch.where(kinds == UNLABELLED, outputs, labelled)

    def score(self, rows: Tensor) -> Tensor:
        """D."""
        return self.forward(rows)
