"""A blend of classifiers as one module: a network, trees and linear models, combined on posteriors."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from imbsam.inputs import TableSpec
from imbsam.models.mlp import MLP
from imbsam.models.trees import Boosting, Forest

State = Mapping[str, Tensor]
Kind = Literal["network", "boosting", "forest", "linear"]
KINDS: tuple[Kind, ...] = ("network", "boosting", "forest", "linear")


def part_of(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): held for name, held in state.items() if name.startswith(f"{prefix}.")}


FLOOR = 0.05
"""Constant added to the ratio of a member's probability to chance, so that no member alone can rule out a class."""


class Blend(nn.Module):
    """Weighted sum of the evidence of several members, as :class:`imbsam.estimators.combine.Pool` defines it.

    Rows ``(B, F)``, numbers and then codes of categories, give logits of the posterior under balanced class priors
    ``(B, C)``: ``sum_m a_m log(C softmax(e_m) + 0.05) + (b - 1) log prior``.

    Args:
        state: ``weights`` a, shape ``(M,)``; ``priors_weight`` b; ``log_priors`` of the training rows, shape ``(C,)``;
            and the state of each :class:`Evidence` below ``members.0``, ...
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        # A parameter: where a module lies is told by its first one.
        self.weights = nn.Parameter(state["weights"], requires_grad=False)
        self.priors_weight = nn.Buffer(state["priors_weight"])
        self.log_priors = nn.Buffer(state["log_priors"])
        self.members = nn.ModuleList(Evidence(part_of(state, f"members.{m}")) for m in range(len(self.weights)))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute evidence, shape ``(B, C)``."""
        classes = len(self.log_priors)
        said = [(classes * member(rows).softmax(dim=1) + FLOOR).log() for member in self.members]
        pooled: Tensor = torch.tensordot(self.weights, torch.stack(said), dims=1)
        return pooled + (self.priors_weight - 1) * self.log_priors


class Evidence(nn.Module):
    """Evidence of one member, without the class priors: ``log p(y | x) - log prior(y)``, shape ``(B, C)``.

    Args:
        state: ``kind``, an index into :data:`KINDS`; the state of the model below ``model``; for a network ``scale``
            and ``shift``, which turn its outputs into evidence; for others the ``priors`` of their probabilities, and
            the number of ``votes`` that these are based on.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.kind = nn.Buffer(state["kind"])
        self.named: Kind = KINDS[int(self.kind)]
        held = part_of(state, "model")
        kinds = {"network": Network, "boosting": Boosting, "forest": Hot, "linear": Hot}
        self.model = kinds[self.named](held)
        for name in ("scale", "shift") if self.named == "network" else ("priors", "votes"):
            self.register_buffer(name, state[name])
        self.scale: Tensor
        self.shift: Tensor
        self.priors: Tensor
        self.votes: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """Compute evidence, shape ``(B, C)``."""
        said: Tensor = self.model(rows)
        if self.named == "network":
            return said * self.scale + self.shift
        told = said if self.named == "forest" else said.softmax(dim=1)
        evidence: Tensor = ((self.votes * told + self.priors) / (self.votes + 1)).log() - self.priors.log()
        return evidence


class Network(nn.Module):
    """Multilayer perceptron that encodes numbers and category codes in its own way.

    Args:
        state: ``mean`` and ``std`` of the numbers; ``codes``, its own code for each code of a categorical column, shape
            ``(columns, codes)``; and the state of the :class:`~imbsam.models.MLP` below ``mlp``.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.mean, self.std, self.codes = (nn.Buffer(state[name]) for name in ("mean", "std", "codes"))
        held = part_of(state, "mlp")
        cardinalities = [len(held[f"inputs.embeddings.{j}.weight"]) for j in range(len(self.codes))]
        layers = sorted(
            int(name.split(".")[1]) for name in held if name.startswith("hidden.") and name.endswith("weight")
        )
        hidden = [len(held[f"hidden.{layer}.weight"]) for layer in layers]
        spec, is_cosine = TableSpec(len(self.mean), tuple(cardinalities)), "classifier.bias" not in held
        self.mlp = MLP(spec, len(held["classifier.weight"]), hidden=hidden, cosine_classifier=is_cosine)
        self.mlp.load_state_dict(held)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute outputs, shape ``(B, C)``."""
        numeric = len(self.mean)
        codes = [own[rows[:, numeric + j].long()][:, None] for j, own in enumerate(self.codes)]
        numbers = rows[:, :numeric] / self.std - self.mean / self.std
        outputs: Tensor = self.mlp(torch.cat([numbers, *codes], dim=1).float())
        return outputs


class Hot(nn.Module):
    """Forest or linear model of numbers and one-hot columns.

    Args:
        state: ``numeric``, the number of numeric columns; below ``hot``, for each categorical column, the one-hot
            columns of each code, shape ``(codes, columns)``; and a forest's state, or ``weight`` and ``bias``, below
            ``model``.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.numeric = nn.Buffer(state["numeric"])
        tables = part_of(state, "hot")
        self.hot = nn.ParameterList(nn.Parameter(tables[str(j)], requires_grad=False) for j in range(len(tables)))
        held = part_of(state, "model")
        self.model: nn.Module = Linear(held) if "weight" in held else Forest(held)
        self.places = int(self.numeric)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute probabilities of a forest or logits of a linear model, shape ``(B, C)``."""
        columns = [table[rows[:, self.places + j].long()] for j, table in enumerate(self.hot)]
        said: Tensor = self.model(torch.cat([rows[:, : self.places], *columns], dim=1))
        return said


class Linear(nn.Module):
    """Linear model that gives logits.

    Args:
        state: ``weight``, shape ``(C, F)``, and ``bias``, shape ``(C,)``.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.weight, self.bias = nn.Buffer(state["weight"]), nn.Buffer(state["bias"])

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits, shape ``(B, C)``."""
        return rows.to(self.weight.dtype) @ self.weight.T + self.bias
