"""The default detector of tables: networks and a forest, whose standardised scores are averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imbsam.anomaly.devnet import DevNet
from imbsam.anomaly.isolation import IsolationForest
from imbsam.anomaly.label_forest import DEPTH
from imbsam.anomaly.objective import Objective, ScaledRows
from imbsam.anomaly.trees import ClassifyingTrees
from imbsam.errors import OptionError


class Blend(Objective):
    """``s(row) = (1 - share) * mean_k z_k(row) + share * z_forest(row)``.

    z are scores less their mean, over their standard deviation, both of training rows without a label that the part
    was not trained on. The networks are DevNets; beside a row they see the standardised score of one isolation forest,
    which tells how strange it is beyond what the labels say. The forest tells labelled anomalies from a few of the
    other rows. Networks and trees err on different rows.

    Args:
        shape: Of a row, ``(columns,)``.
        networks: At least 1; two are trained on one half of the rows without a label each, and so on.
        isolation_trees: At least 1.
        forest_trees: At least 1.
        forest_share: In [0, 1]; 0 for the networks alone.

    Raises:
        OptionError: If rows are images, or a value is out of range.
    """

    rho = 1.5
    mean: Tensor
    spread: Tensor
    strangeness: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        networks: int = 4,
        isolation_trees: int = 100,
        forest_trees: int = 100,
        forest_share: float = 0.5,
    ) -> None:
        super().__init__()
        if len(shape) > 1:
            raise OptionError("blend is for tables, and these rows are images: choose another objective, as devnet.")
        counts = {"networks": networks, "isolation_trees": isolation_trees, "forest_trees": forest_trees}
        wrong = [name for name, value in counts.items() if not (hasattr(value, "__index__") and value >= 1)]
        if wrong:
            raise OptionError(f"{wrong[0]} must be a whole number of at least 1; got {counts[wrong[0]]!r}.")
        if not 0 <= forest_share <= 1:
            raise OptionError(f"forest_share must lie in [0, 1]; got {forest_share!r}.")
        self.forest_share = forest_share
        self.isolation = IsolationForest(shape[0], isolation_trees)
        self.networks = nn.ModuleList(Seeing(shape[0], self) for _ in range(networks))
        self.forest = ClassifyingTrees(forest_trees, DEPTH, 2)
        self.register_buffer("strangeness", torch.tensor([0.0, 1.0]))
        self.register_buffer("mean", torch.zeros(networks + 1))
        self.register_buffer("spread", torch.ones(networks + 1))

    @torch.no_grad()
    def look(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Grow the isolation forest, and keep mean and standard deviation of its scores."""
        self.isolation.grow(rows, draw)
        scores = torch.cat([self.isolation(block) for block in rows.blocks()])
        spread = scores.std(correction=0)
        self.strangeness.copy_(torch.stack([scores.mean(), torch.where(spread > 0, spread, 1.0)]))

    def seen(self, rows: Tensor) -> Tensor:
        """Scaled rows with the isolation forest's score beside them, shape ``(B, columns + 1)``."""
        strange = (self.isolation(rows) - self.strangeness[0]) / self.strangeness[1]
        return torch.cat([rows, strange[:, None]], dim=1)

    def parts(self, rows: Tensor) -> Tensor:
        """Scores of each network and, last, of the forest, shape ``(B, networks + 1)``."""
        seen = self.seen(rows)
        return torch.stack([*(network(seen) for network in self.networks), self.forest(rows)[:, 1]], dim=1)

    def standardised(self, parts: Tensor) -> Tensor:
        """Scores of the parts less their means, over their standard deviations, shape ``(B, networks + 1)``."""
        return (parts - self.mean) / self.spread

    def averaged(self, networks: Tensor, forest: Tensor) -> Tensor:
        """The score, of the networks' mean and the forest's, each standardised, shape ``(B,)``."""
        return (1 - self.forest_share) * networks + self.forest_share * forest

    def forward(self, rows: Tensor) -> Tensor:
        """The scores s of scaled rows, shape ``(B,)``."""
        z = self.standardised(self.parts(rows))
        return self.averaged(z[:, :-1].mean(dim=1), z[:, -1])


class Seeing(DevNet):
    """A DevNet that sees what the blend shows it.

    Args:
        columns: Of a row.
        blend: Shows them with a further one.
    """

    def __init__(self, columns: int, blend: Blend) -> None:
        super().__init__((columns + 1,), trees=0)
        # In a tuple it is not a module of the network.
        self._blend = (blend,)

    def form(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Rows as the blend shows them, shape ``(B, columns + 1)``."""
        return self._blend[0].seen(rows)
