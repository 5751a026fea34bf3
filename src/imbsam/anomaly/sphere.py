"""Hypersphere of Deep SVDD and Deep SAD: a bias-free encoder and a centre fixed before training."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from imbsam.anomaly.encoders import decoder, encoder
from imbsam.anomaly.networks import Reconstruction, bias_free, bias_free_decoder, draw_weights
from imbsam.anomaly.objective import Objective, ScaledRows
from imbsam.anomaly.settings import Scaling


class Sphere(Objective):
    """Squared distances ``d = |phi(x) - c|^2`` to a fixed centre, which are also the score.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        layers: Units of each dense layer; by default those published: 128-64-32 for arrhythmia's 274 columns (here:
            more than 64), 32-16-8 for other tables, 128-64 for Fashion-MNIST's images.
    """

    scaling: ClassVar[Scaling] = "minmax"
    center: Tensor

    def __init__(self, shape: Sequence[int], layers: Sequence[int] | None) -> None:
        super().__init__()
        if not layers:
            layers = (128, 64) if len(shape) > 1 else (128, 64, 32) if shape[0] > 64 else (32, 16, 8)
        self.shape, self.layers = tuple(shape), tuple(layers)
        self.encoder = encoder(shape, lambda columns: bias_free([columns, *layers]), bias=False)
        self.register_buffer("center", torch.zeros(layers[-1]))

    def pretraining(self, draw: torch.Generator) -> Reconstruction:
        """Return the encoder, with a decoder to values in (0, 1) that is needed for pre-training only."""
        back = decoder(self.shape, lambda columns: bias_free_decoder([columns, *self.layers]), bias=False)
        draw_weights(back, draw)
        return Reconstruction(self.encoder, nn.Sequential(back, nn.Sigmoid()).to(self.center))

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Set the centre to the mean of the encoded rows.

        A coordinate within 0.1 of 0 is moved to that distance: a unit that reaches its centre with a zero weight would
        be trivial. An exact 0 stays, as published.
        """
        images = [(self.encoder(block).sum(dim=0), len(block)) for block in rows.blocks()]
        mean = torch.stack([total for total, _ in images]).sum(dim=0) / sum(number for _, number in images)
        self.center.copy_(torch.where(mean.abs() < 0.1, 0.1 * mean.sign(), mean))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute d, shape ``(B,)``."""
        distances: Tensor = (self.encoder(rows) - self.center).square().sum(dim=1)
        return distances
