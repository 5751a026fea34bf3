"""RoSAS (Xu et al., IP&M 2023): the scores of mixtures of rows follow the share of a labelled anomaly in them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from imbsam.anomaly.batches import Batching, pair_batches, pair_counts
from imbsam.anomaly.encoders import encoder
from imbsam.anomaly.networks import linear, mlp
from imbsam.anomaly.objective import Objective
from imbsam.errors import OptionError


class RoSAS(Objective):
    """RoSAS: half a triplet loss of encodings and half a regression of the scores s of mixtures.

    A sample is a pair (x, x') with a share lambda of Dirichlet(1/2, 1/2) and its mixture
    ``x~ = lambda x + (1 - lambda) x'``. With targets t = -1 of a row and 1 of a labelled anomaly

    ``l = 1/2 [SmoothL1(s(x~), lambda t + (1 - lambda) t') + SmoothL1(s(x~), lambda s(x) + (1 - lambda) s(x'))]``

    and, where x' is a labelled anomaly and x is not, ``+ 1/2 max(0, |z - z''| - |z - z'| + margin)`` with another row
    x''. The published batches hold triplets and random mixtures of all their rows; here mixtures are formed in pairs,
    so that each sample has its own loss, and the tail are the samples with a labelled anomaly.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        hidden: Units of the encoder's hidden layers.
        dimensions: Dimensions of an encoding, at least 2.
        margin: Margin, above 0.

    Raises:
        OptionError: If ``margin`` is not above 0.
    """

    tail = (False, True, True)
    rho = 0.05
    anomaly_share = 0.5

    def __init__(
        self, shape: Sequence[int], *, hidden: Sequence[int] = (32,), dimensions: int = 32, margin: float = 5.0
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise OptionError(f"margin must be above 0; got {margin}.")
        self.margin = margin
        self.encoder = encoder(shape, lambda columns: mlp([columns, *hidden, dimensions], bias=False))
        self.hidden = linear(dimensions, max(1, dimensions // 2), bias=False)
        self.output = linear(max(1, dimensions // 2), 1)

    def counts(self, kinds: Tensor) -> Tensor:
        """Count pairs by the labelled anomalies in them."""
        return pair_counts(kinds)

    def batches(self, kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield triples, shape ``(B, 3)``: a pair, and another row that is the first of some other pair."""
        for pairs, held in pair_batches(kinds, batching, draw):
            others = pairs[held < 2, 0]
            third = others[torch.randint(len(others), (len(pairs),), generator=draw)]
            yield torch.cat([pairs, third[:, None]], dim=1), held

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Append the mixture, and the share at every place, to x, x' and x'': shape ``(B, 5, *shape)``."""
        # Dirichlet(1/2, 1/2) is the arcsine law: sin^2 of a uniform angle.
        uniform = torch.rand(len(rows), *[1] * (rows.ndim - 1), generator=draw, dtype=torch.float64)
        share = (torch.pi / 2 * uniform).sin().square().to(rows)
        mixture = share * rows[:, :1] + (1 - share) * rows[:, 1:2]
        return torch.cat([rows, mixture, share.expand_as(mixture)], dim=1)

    def forward(self, samples: Tensor) -> Tensor:
        """Compute ``s(x~)``, ``s(x)``, ``s(x')``, lambda, ``|z - z''|`` and ``|z - z'|``, shape ``(B, 6)``."""
        codes = self.encoder(samples[:, :4].flatten(0, 1)).unflatten(0, (-1, 4))
        scores = self._scores(codes)
        to_other = (codes[:, 0] - codes[:, 2] + 1e-6).norm(dim=1)
        to_anomaly = (codes[:, 0] - codes[:, 1] + 1e-6).norm(dim=1)
        share = samples[:, 4].flatten(1)[:, 0]
        return torch.stack([scores[:, 3], scores[:, 0], scores[:, 1], share, to_other, to_anomaly], dim=1)

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses; the kind is the number of labelled anomalies, of which one is second."""
        mixed, first, second, share, to_other, to_anomaly = outputs.unbind(dim=1)
        t_first = torch.where(kinds == 2, 1.0, -1.0).to(outputs)
        t_second = torch.where(kinds >= 1, 1.0, -1.0).to(outputs)
        target = share * t_first + (1 - share) * t_second
        expected = share * first + (1 - share) * second
        regression = _smooth_l1(mixed, target) + _smooth_l1(mixed, expected)
        triplet = (to_other - to_anomaly + self.margin).relu()
        return 0.5 * regression + 0.5 * torch.where(kinds == 1, triplet, 0.0)

    def score(self, rows: Tensor) -> Tensor:
        """Compute the score s, in [-1, 1]."""
        return self._scores(self.encoder(rows))

    def _scores(self, codes: Tensor) -> Tensor:
        scores: Tensor = self.output(F.leaky_relu(self.hidden(codes))).squeeze(-1).tanh()
        return scores


def _smooth_l1(left: Tensor, right: Tensor) -> Tensor:
    return F.smooth_l1_loss(left, right, reduction="none")
