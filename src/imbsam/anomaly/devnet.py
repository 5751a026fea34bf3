"""DevNet (Pang et al., KDD 2019): labelled anomalies at least a margin of standard deviations above the others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.isolation import IsolationForest
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import WithLinearPath, mlp
from imbsam.anomaly.objective import Objective, ScaledRows
from imbsam.errors import OptionError


class DevNet(Objective):
    """DevNet: ``|dev|`` of rows, ``max(0, margin - dev)`` of labelled anomalies, ``dev = (o - mean(r)) / std(r)``.

    r are 5000 draws of a standard normal, made once; the score is o. The weight decay of 0.02 is the published penalty,
    ``0.01 |w|^2``. Two things are added to the published network of one hidden layer: a linear layer beside it and, for
    tables, the standardised score of an isolation forest as a further column, which shows how unusual a row is apart
    from the few labels. ``hidden=(20,), linear=False, trees=0`` is the published network.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        hidden: Units of each hidden layer.
        margin: Margin in standard deviations, above 0.
        linear: Whether to add a linear layer beside the hidden ones.
        trees: Number of trees of the isolation forest; 0 for none. Images have none.

    Raises:
        OptionError: If ``margin`` is not above 0, or ``trees`` below 0.
    """

    rho = 1.5
    lr = 3e-3
    weight_decay = 0.02
    anomaly_share = 0.5
    reference: Tensor
    strangeness: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hidden: Sequence[int] = (32,),
        margin: float = 5.0,
        linear: bool = True,
        trees: int = 100,
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise OptionError(f"margin must be above 0; got {margin}.")
        if trees < 0:
            raise OptionError(f"trees must be at least 0; got {trees}.")
        self.margin = margin
        self.forest = IsolationForest(shape[0], trees) if trees and len(shape) == 1 else None
        if len(shape) > 1:
            # With what suits tables a convolutional network learns nothing.
            self.rho, self.lr, self.weight_decay = 0.05, 1e-3, 1e-6
        seen = shape if self.forest is None else (shape[0] + 1,)
        self.network = encoder(
            seen, lambda columns: WithLinearPath(columns, hidden, 1) if linear else mlp([columns, *hidden, 1])
        )
        self.register_buffer("reference", torch.tensor([0.0, 1.0]))
        self.register_buffer("strangeness", torch.tensor([0.0, 1.0]))

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Draw the reference scores and store their mean and standard deviation; grow the forest, and store its."""
        r = torch.randn(5000, generator=draw, dtype=torch.float64)
        self.reference.copy_(torch.stack([r.mean(), r.std(correction=0)]))
        if self.forest is not None:
            self.forest.grow(rows, draw)
            scores = torch.cat([self.forest(block) for block in rows.blocks()])
            spread = scores.std(correction=0)
            self.strangeness.copy_(torch.stack([scores.mean(), torch.where(spread > 0, spread, 1.0)]))

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Return the rows with the forest's score as a further column, shape ``(B, columns + 1)``; images unchanged."""
        return self._seen(rows)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the outputs o of rows from :meth:`form`, shape ``(B,)``."""
        outputs: Tensor = self.network(rows).squeeze(1)
        return outputs

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from o."""
        deviation = (outputs - self.reference[0]) / self.reference[1]
        return torch.where(kinds == ANOMALY, (self.margin - deviation).relu(), deviation.abs())

    def score(self, rows: Tensor) -> Tensor:
        """Return o."""
        return self.forward(self._seen(rows))

    def _seen(self, rows: Tensor) -> Tensor:
        if self.forest is None:
            return rows
        score = (self.forest(rows) - self.strangeness[0]) / self.strangeness[1]
        return torch.cat([rows, score[:, None]], dim=1)
