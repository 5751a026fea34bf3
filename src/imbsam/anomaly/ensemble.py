"""Several networks of one shape, trained in one batch of matrix products, each as if it were alone."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from imbsam.anomaly.batches import Batching, row_batches
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.objective import Objective, ScaledRows
from imbsam.anomaly.settings import Settings
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope

TOGETHER = ("plain", "sam", "imbsam")
"""Methods that combine parameters only in their ascent, which keeps the networks separate."""

ELEMENTWISE = ("adam", "adamw", "sgd", "rmsprop")
"""Base optimizers that update each number separately."""


class Ensemble(Objective):
    """Networks whose parameters are stacked along a first axis; their losses are added, so gradients stay separate.

    Each sample of a batch is one row per network, all of one kind, each from the network's own rows.

    Args:
        networks: Networks of one class and shape; :meth:`part` gives them the learned weights.
        own: Mask of the rows that each is trained on, bool, shape ``(networks, N)``.
        shares: Neighbourhood size of each, divided by the method's rho.
    """

    def __init__(self, networks: Sequence[Objective], own: Tensor, shares: Sequence[float]) -> None:
        super().__init__()
        first = networks[0]
        self.rho, self.lr, self.weight_decay = first.rho, first.lr, first.weight_decay
        # In a tuple they are no modules of this one, which has their parameters.
        self._networks, self._own, self._shares = tuple(networks), own, tuple(shares)
        self._names = [name for name, _ in first.named_parameters()]
        each = zip(*(network.parameters() for network in networks), strict=True)
        self.stacked = nn.ParameterList(torch.stack([p.detach() for p in several]) for several in each)

    @property
    def anomaly_share(self) -> float:  # type: ignore[override]
        """Share of each batch with a labelled anomaly, that of the networks."""
        return self._networks[0].anomaly_share

    def begin(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Let every network look at the training rows, with the same random numbers."""
        state = draw.get_state()
        for network in self._networks:
            draw.set_state(state)
            network.begin(rows, draw)

    def batches(self, kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch: row numbers, shape ``(B, networks)``, and kinds of samples, ``(B,)``."""
        seeds = torch.randint(2**62, (len(self._own),), generator=draw).tolist()

        def of_one(own: Tensor, seed: int) -> Iterator[Tensor]:
            index = own.nonzero().squeeze(1)
            for batch in row_batches(kinds[index], batching, torch.Generator().manual_seed(seed)):
                yield index[batch]

        for rows in zip(*map(of_one, self._own, seeds), strict=False):
            # The networks' numbers of rows differ by one or so: a few rows are left to the next epoch.
            others = min(len(index) for index in rows) - batching.anomalies
            index = torch.stack([torch.cat([i[:others], i[len(i) - batching.anomalies :]]) for i in rows], dim=1)
            yield index, kinds[index[:, 0]]

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Make samples of rows ``(B, networks, columns)``, as the networks see them."""
        seen = self._networks[0].form(rows.flatten(0, 1), draw)
        return seen.view(*rows.shape[:2], -1)

    def forward(self, samples: Tensor) -> Tensor:
        """Compute outputs, shape ``(B, networks)``."""

        def one(weights: tuple[Tensor, ...], rows: Tensor) -> Tensor:
            named = dict(zip(self._names, weights, strict=True))
            outputs: Tensor = functional_call(self._networks[0], named, (rows,))
            return outputs

        outputs: Tensor = vmap(one, in_dims=(0, 1), out_dims=1)(tuple(self.stacked), samples)
        return outputs

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Compute the losses of each sample, added up over the networks, shape ``(B,)``."""
        return self._networks[0].losses(outputs, kinds[:, None]).sum(dim=1)

    def ascent(self, damping: float) -> Ascent:
        """Return the ascent along the gradient of each network."""
        return Apart(self._shares, damping)

    @torch.no_grad()
    def part(self) -> None:
        """Give the networks their weights."""
        for number, network in enumerate(self._networks):
            for parameter, stacked in zip(network.parameters(), self.stacked, strict=True):
                parameter.copy_(stacked[number])
            network.eval()


class Apart(Ascent):
    """Ascent along the gradient of each of several networks, ``e_k = share_k * rho * g_k / (|g_k| + d)``.

    Args:
        shares: Shares of the neighbourhood size, for each position of the first axis of all parameters.
        damping: d, see :class:`~imbsam.optim.Gradient`.
    """

    def __init__(self, shares: Sequence[float], damping: float) -> None:
        self.shares, self.damping = tuple(shares), damping

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation of each network to its part of the parameters."""
        grads = [g.flatten(1) for slope in slopes for g in slope.grads]
        norms = torch.linalg.vector_norm(torch.cat(grads, dim=1), dim=1)
        length = norms + self.damping
        shares = torch.tensor(self.shares, dtype=length.dtype, device=length.device)
        scale = torch.where(length > 0, shares / length, 0.0)
        for slope in slopes:
            for parameter, g in zip(slope.params, slope.grads, strict=True):
                parameter.add_(g * (slope.rho * scale).view(-1, *[1] * (g.ndim - 1)))
        return Climbed(torch.linalg.vector_norm(norms))


def can_be_trained_together(own: Tensor, kinds: Tensor, settings: Settings) -> bool:
    """Return whether a step of all networks together equals a step of each alone.

    Args:
        own: Mask of the rows that each is trained on, bool, shape ``(networks, N)``.
        kinds: Kinds of the rows, shape ``(N,)``.
        settings: The options.
    """
    aligned = settings.anomalies_per_batch != 0 and bool((own & (kinds == ANOMALY)).any(dim=1).all())
    apart = settings.method in TOGETHER and "ascent" not in settings.method_options and settings.base in ELEMENTWISE
    return aligned and apart
