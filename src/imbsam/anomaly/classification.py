"""Separation of labelled anomalies from all other rows, by cross-entropy or focal loss."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import WithLinearPath
from imbsam.anomaly.objective import Objective
from imbsam.errors import OptionError


class BCE(Objective):
    """Cross-entropy: ``-log p`` of labelled anomalies, ``-log(1 - p)`` of others, ``p = sigmoid(o)``; the score is o.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        hidden: Units of each hidden layer.
    """

    rho = 0.1

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        self.network = encoder(shape, lambda columns: WithLinearPath(columns, hidden, 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the outputs o, shape ``(B,)``."""
        logits: Tensor = self.network(rows).squeeze(1)
        return logits

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from o."""
        return _cross_entropy(outputs, kinds)


class Focal(Objective):
    """Focal loss ``-(1 - q)^gamma log q``, q the probability of the row's label (Lin et al. 2017); the score is o.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        gamma: Focusing exponent, at least 0; 0 is :class:`BCE`.
        hidden: Units of each hidden layer.

    Raises:
        OptionError: If ``gamma`` is below 0.
    """

    rho = 0.1

    def __init__(self, shape: Sequence[int], *, gamma: float = 2.0, hidden: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        if not gamma >= 0:
            raise OptionError(f"gamma must be at least 0; got {gamma}.")
        self.gamma = gamma
        self.network = encoder(shape, lambda columns: WithLinearPath(columns, hidden, 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the outputs o, shape ``(B,)``."""
        logits: Tensor = self.network(rows).squeeze(1)
        return logits

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses from o."""
        cross_entropy = _cross_entropy(outputs, kinds)
        # (1 - q)^gamma by way of log(1 - q), whose gradient is finite where q is 1 to the last bit.
        log_other = F.logsigmoid(torch.where(kinds == ANOMALY, -outputs, outputs))
        return (self.gamma * log_other).exp() * cross_entropy


def _cross_entropy(logits: Tensor, kinds: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, (kinds == ANOMALY).to(logits), reduction="none")
