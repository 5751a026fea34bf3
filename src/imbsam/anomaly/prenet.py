"""PReNet (Pang et al., KDD 2023): regression of the number of labelled anomalies in a pair of rows."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from imbsam.anomaly.batches import Batching, pair_batches, pair_counts
from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.networks import linear, mlp
from imbsam.anomaly.objective import Objective, ScaledRows

PARTNERS = 30


class PReNet(Objective):
    """PReNet: ``|f(x, x') - t|``, t = 0, 4, 8 for a pair with 0, 1, 2 labelled anomalies; f is linear in each encoding.

    A row's score is its mean f with 30 labelled anomalies and 30 other rows, drawn once. For ImbSAM the tail are the
    pairs with a labelled anomaly, half of each batch by default.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        hidden: Units of the encoder's hidden layers.
        dimensions: Dimensions of an encoding.
    """

    tail = (False, True, True)
    least_anomalies = 2
    rho = 0.05
    anomaly_share = 0.5
    partners: Tensor

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (64,), dimensions: int = 32) -> None:
        super().__init__()
        self.encoder = encoder(shape, lambda columns: mlp([columns, *hidden, dimensions]))
        self.relation = linear(2 * dimensions, 1, bias=False)
        self.register_buffer("partners", torch.zeros(2 * PARTNERS, *shape))

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Draw the partners."""
        for place, anomalous in enumerate((rows.kinds == ANOMALY, rows.kinds != ANOMALY)):
            numbers = anomalous.nonzero().squeeze(1)
            drawn = numbers[torch.randint(len(numbers), (PARTNERS,), generator=draw)]
            self.partners[place * PARTNERS : (place + 1) * PARTNERS] = rows.take(drawn)

    def counts(self, kinds: Tensor) -> Tensor:
        """Count pairs by the labelled anomalies in them."""
        return pair_counts(kinds)

    def batches(self, kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pairs, shape ``(B, 2)``."""
        return pair_batches(kinds, batching, draw)

    def forward(self, pairs: Tensor) -> Tensor:
        """Compute the relation f of pairs ``(B, 2, *shape)``, shape ``(B,)``."""
        codes = self.encoder(pairs.flatten(0, 1)).view(len(pairs), -1)
        related: Tensor = self.relation(codes).squeeze(1)
        return related

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute ``|f - 4 * kind|``, the kind being the number of labelled anomalies."""
        return (outputs - 4 * kinds).abs()

    def score(self, rows: Tensor) -> Tensor:
        """Compute the mean f with the partners; f is linear in their encodings, so it is f with their mean encoding."""
        first, second = self.relation.weight[0].chunk(2)
        score: Tensor = self.encoder(rows) @ first + self.encoder(self.partners).mean(dim=0) @ second
        return score
