"""Encoding and network that a fit learns besides the weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imbsam import models
from imbsam.data.columns import Columns
from imbsam.errors import OptionError
from imbsam.estimators.training import outputs_of


@dataclass(frozen=True)
class Learnt:
    """Encoding and network structure of a fit, without the weights.

    Args:
        columns: Encoding of each column.
        classes: Number of classes C.
        hidden: Number of units of each hidden layer.
        cosine: Whether the network ends in cosines.
    """

    columns: Columns
    classes: int
    hidden: tuple[int, ...]
    cosine: bool

    def new_model(self) -> nn.Module:
        """Make a network with random weights, from torch's global generator.

        Raises:
            OptionError: If ``hidden`` is out of range.
        """
        return models.build(
            "mlp", self.columns.spec, num_classes=self.classes, cosine_classifier=self.cosine, hidden=self.hidden
        )

    def check_goes_on(self, before: "Learnt") -> None:
        """Refuse to continue from weights of another network.

        Raises:
            OptionError: If the layers differ.
        """
        if (self.hidden, self.cosine) != (before.hidden, before.cosine):
            raise OptionError(
                f"warm_start continues with the network of the last fit, hidden={before.hidden}"
                f"{' ending in cosines' if before.cosine else ''}; set warm_start=False to start with another one."
            )

    def outputs(self, model: nn.Module, rows: Tensor, device: torch.device) -> Tensor:
        """Compute outputs for features ``(N, F)``: shape ``(N, C)``, on the CPU, float64 if the device has it."""
        return outputs_of(model, rows, device)
