"""FeaWAD (Zhou et al., TNNLS 2021): an anomaly score from an auto-encoder's encoding and its reconstruction error."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from imbsam.anomaly.encoders import decoder, encoder
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import Reconstruction, mlp
from imbsam.anomaly.objective import Objective
from imbsam.errors import OptionError


class FeaWAD(Objective):
    """FeaWAD: ``|o| + |r|`` of rows, ``max(0, margin - o) + max(0, margin - |r|)`` of labelled anomalies; score o.

    ``r`` is the reconstruction residual of a pre-trained auto-encoder; o is the output of a network that sees the
    encoding, the direction ``r / |r|`` and the length ``|r|``.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        layers: Units of the encoder's dense layers; the decoder mirrors them.
        hidden: Units of the score's hidden layers.
        margin: Margin, above 0.

    Raises:
        OptionError: If ``margin`` is not above 0.
    """

    rho = 0.05
    anomaly_share = 0.5

    def __init__(
        self,
        shape: Sequence[int],
        *,
        layers: Sequence[int] = (64, 16),
        hidden: Sequence[int] = (64, 32),
        margin: float = 5.0,
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise OptionError(f"margin must be above 0; got {margin}.")
        self.margin = margin
        self.encoder = encoder(shape, lambda columns: mlp([columns, *layers]))
        self.decoder = decoder(shape, lambda columns: mlp([*layers[::-1], columns]))
        self.scorer = mlp([layers[-1] + prod(shape) + 1, *hidden, 1])

    def pretraining(self, draw: torch.Generator) -> Reconstruction:
        """Return encoder and decoder."""
        return Reconstruction(self.encoder, self.decoder)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute o and ``|r|``, shape ``(B, 2)``."""
        code = self.encoder(rows)
        residual = (self.decoder(code) - rows).flatten(1)
        # Not vector_norm: its gradient at a row reconstructed exactly is not a number once it is partitioned by.
        length = (residual.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        score = self.scorer(torch.cat([code, residual / length, length], dim=1))
        return torch.cat([score, length], dim=1)

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from o and ``|r|``."""
        score, length = outputs.unbind(dim=1)
        rows = score.abs() + length
        anomalies = (self.margin - score).relu() + (self.margin - length).relu()
        return torch.where(kinds == ANOMALY, anomalies, rows)

    def score(self, rows: Tensor) -> Tensor:
        """Return o."""
        return self.forward(rows)[:, 0]
