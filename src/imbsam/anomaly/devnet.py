"""DevNet (Pang et al., KDD 2019): labelled anomalies at least a margin of standard deviations above the others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import mlp
from imbsam.anomaly.objective import Objective, ScaledRows
from imbsam.errors import OptionError


class DevNet(Objective):
    """``|dev|`` of rows, ``max(0, margin - dev)`` of labelled anomalies, ``dev = (o - mean(r)) / std(r)``.

    r are 5000 draws of a standard normal, made once; the score is o. The published network has one hidden layer of 20
    and an L2 penalty of 0.01, which is for ``weight_decay`` to give.

    Args:
        shape: Of a row, see :class:`Objective`.
        hidden: Units of each hidden layer.
        margin: Above 0.

    Raises:
        OptionError: If ``margin`` is not above 0.
    """

    rho = 0.05
    anomaly_share = 0.5
    reference: Tensor

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (20,), margin: float = 5.0) -> None:
        super().__init__()
        if not margin > 0:
            raise OptionError(f"margin must be above 0; got {margin}.")
        self.margin = margin
        self.network = encoder(shape, lambda columns: mlp([columns, *hidden, 1]))
        self.register_buffer("reference", torch.tensor([0.0, 1.0]))

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Draw the reference scores and keep their mean and standard deviation."""
        r = torch.randn(5000, generator=draw, dtype=torch.float64)
        self.reference.copy_(torch.stack([r.mean(), r.std(correction=0)]))

    def forward(self, rows: Tensor) -> Tensor:
        """o, shape ``(B,)``."""
        outputs: Tensor = self.network(rows).squeeze(1)
        return outputs

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """As above, of o."""
        deviation = (outputs - self.reference[0]) / self.reference[1]
        return torch.where(kinds == ANOMALY, (self.margin - deviation).relu(), deviation.abs())
