"""The hypersphere of Deep SVDD and Deep SAD: a bias-free encoder and a centre fixed before training."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from imbsam.anomaly.networks import Reconstruction, bias_free, bias_free_decoder, draw_weights


class Sphere(nn.Module):
    """Squared distances to a fixed centre; rows ``(B, columns)`` give ``(B,)``.

    Args:
        columns: Of the input.
        layers: Units of each layer; by default those published for the six tables of Deep SAD: 128-64-32 for
            arrhythmia's 274 columns (here: more than 64), 32-16-8 otherwise.
    """

    center: Tensor

    def __init__(self, columns: int, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        self.widths = [columns, *(layers or ((128, 64, 32) if columns > 64 else (32, 16, 8)))]
        self.encoder = bias_free(self.widths)
        self.register_buffer("center", torch.zeros(self.widths[-1]))

    def forward(self, rows: Tensor) -> Tensor:
        """``|phi(x) - c|^2``, shape ``(B,)``."""
        distances: Tensor = (self.encoder(rows) - self.center).square().sum(dim=1)
        return distances

    def auto_encoder(self, draw: torch.Generator) -> Reconstruction:
        """The encoder, with a decoder that is needed for pre-training only."""
        decoder = bias_free_decoder(self.widths)
        draw_weights(decoder, draw)
        return Reconstruction(self.encoder, decoder.to(self.center.dtype).to(self.center.device))

    def place_center(self, blocks: Iterable[Tensor]) -> None:
        """Put the centre at the mean of the rows' images.

        A coordinate within 0.1 of 0 is moved there: a unit that meets its centre with a zero weight is trivial.
        An exact 0 stays, as published.

        Args:
            blocks: Scaled rows, shape ``(B, columns)`` each.
        """
        images = [(self.encoder(block).sum(dim=0), len(block)) for block in blocks]
        mean = torch.stack([total for total, _ in images]).sum(dim=0) / sum(number for _, number in images)
        self.center.copy_(torch.where(mean.abs() < 0.1, 0.1 * mean.sign(), mean))
