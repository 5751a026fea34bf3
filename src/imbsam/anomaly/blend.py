"""Default detector of tables: networks and a forest, whose standardised scores are averaged."""

import math
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
    """Blend of networks and forests: ``s(row) = mean_k z_k(row) + w_F z_F(row) + w_I z_I(row)``.

    z are scores minus their mean, divided by their standard deviation, both over training rows that are not labelled
    anomalies and that the part was not trained on. The networks k are DevNets; besides a row they see the standardised
    score of the isolation forest I, which shows how unusual the row is apart from the labels. The forest F separates
    labelled anomalies from a few of the other rows. Networks and trees err on different rows, and a forest improves
    with the number of labels: ``w_F`` is a twentieth of that number, between 1/4 and 1.

    Args:
        shape: Shape of a row, ``(columns,)``.
        networks: Number of networks, at least 1; each of two is trained on one half of the other rows, and so on.
        isolation_trees: Number of trees of I, at least 1.
        forest_trees: Number of trees of F, at least 1.
        forest_weight: w_F, at least 0; None to choose it by the number of labelled anomalies.
        isolation_weight: w_I, at least 0.

    Raises:
        OptionError: If rows are images, or a value is out of range.
    """

    rho = 1.5
    mean: Tensor
    spread: Tensor
    weights: Tensor
    strangeness: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        networks: int = 4,
        isolation_trees: int = 50,
        forest_trees: int = 50,
        forest_weight: float | None = None,
        isolation_weight: float = 0.25,
    ) -> None:
        super().__init__()
        if len(shape) > 1:
            raise OptionError(
                "blend is for tables, and these rows are images: choose another objective, for example devnet."
            )
        counts = {"networks": networks, "isolation_trees": isolation_trees, "forest_trees": forest_trees}
        wrong = [name for name, value in counts.items() if not (hasattr(value, "__index__") and value >= 1)]
        if wrong:
            raise OptionError(f"{wrong[0]} must be a whole number of at least 1; got {counts[wrong[0]]!r}.")
        for name, weight in (("forest_weight", forest_weight or 0.0), ("isolation_weight", isolation_weight)):
            if not 0 <= weight < math.inf:
                raise OptionError(f"{name} must be finite and at least 0; got {weight!r}.")
        self.forest_weight = forest_weight
        self.isolation = IsolationForest(shape[0], isolation_trees)
        self.networks = nn.ModuleList(DevNet((shape[0] + 1,), trees=0) for _ in range(networks))
        self.forest = ClassifyingTrees(forest_trees, DEPTH, 2)
        self.register_buffer("strangeness", torch.tensor([0.0, 1.0]))
        self.register_buffer("mean", torch.zeros(networks + 2))
        self.register_buffer("spread", torch.ones(networks + 2))
        self.register_buffer("weights", torch.tensor([forest_weight or 0.0, isolation_weight]))

    @torch.no_grad()
    def look(self, rows: ScaledRows, draw: torch.Generator) -> None:
        """Grow the isolation forest, and keep mean and standard deviation of its scores."""
        self.isolation.grow(rows, draw)
        scores = torch.cat([self.isolation(block) for block in rows.blocks()])
        spread = scores.std(correction=0)
        self.strangeness.copy_(torch.stack([scores.mean(), torch.where(spread > 0, spread, 1.0)]))

    def strange(self, rows: Tensor) -> Tensor:
        """Compute the isolation forest's standardised score, which the networks see, shape ``(B, 1)``."""
        scores: Tensor = self.isolation(rows)
        return ((scores - self.strangeness[0]) / self.strangeness[1])[:, None]

    def weigh(self, labelled: int) -> None:
        """Set w_F where it depends on the number of labelled anomalies."""
        if self.forest_weight is None:
            self.weights[0] = max(0.25, min(1.0, labelled / 20))

    def parts(self, rows: Tensor) -> Tensor:
        """Compute scores of each network, of F and of I, shape ``(B, networks + 2)``."""
        seen = torch.cat([rows, self.strange(rows)], dim=1)
        trees = [self.forest(rows)[:, 1], seen[:, -1]]
        return torch.stack([*(network(seen) for network in self.networks), *trees], dim=1)

    def standardised(self, parts: Tensor) -> Tensor:
        """Standardise the scores of the parts, shape ``(B, networks + 2)``."""
        return (parts - self.mean) / self.spread

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the scores s of scaled rows, shape ``(B,)``."""
        z = self.standardised(self.parts(rows))
        return z[:, :-2].mean(dim=1) + z[:, -2:] @ self.weights
