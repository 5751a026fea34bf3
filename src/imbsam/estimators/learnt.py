"""What a fit learns beside the weights: how rows are read, and what the network's outputs mean."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imbsam import losses, models
from imbsam.data.columns import Columns
from imbsam.errors import OptionError
from imbsam.estimators.training import outputs_of
from imbsam.priors import ClassPriors


@dataclass(frozen=True)
class Learnt:
    """The road from features to logits, the weights apart.

    Args:
        columns: How each column is read.
        hidden: Units of each hidden layer.
        cosine: Whether the network ends in cosines.
        scale: Factor that makes logits of its outputs.
        shift: What post-hoc logit adjustment takes off them, shape ``(C,)``, float64.
    """

    columns: Columns
    hidden: tuple[int, ...]
    cosine: bool
    scale: float
    shift: Tensor

    @classmethod
    def of(
        cls,
        columns: Columns,
        priors: ClassPriors,
        *,
        hidden: tuple[int, ...],
        loss: str,
        scale: float | None,
        adjust: float,
    ) -> "Learnt":
        """Put together what the loss and the class counts ask for.

        Args:
            columns: How each column is read.
            priors: Of the training rows.
            hidden: Units of each hidden layer.
            loss: Name of the loss.
            scale: The loss's own, where the user set it.
            adjust: tau of post-hoc logit adjustment.

        Returns:
            All of it.

        Raises:
            OptionError: If the loss is unknown.
        """
        cosine = losses.needs_cosine_classifier(loss)
        factor = losses.output_scale(loss, {} if scale is None else {"scale": scale})
        nothing = torch.zeros(1, priors.num_classes, dtype=torch.float64)
        shift = nothing - losses.adjust_logits(nothing, priors, tau=adjust)
        return cls(columns, hidden, cosine, factor, shift[0])

    def new_model(self) -> nn.Module:
        """A network with random weights, from torch's global generator.

        Raises:
            OptionError: If ``hidden`` is out of range.
        """
        return models.build(
            "mlp", self.columns.spec, num_classes=len(self.shift), cosine_classifier=self.cosine, hidden=self.hidden
        )

    def check_goes_on(self, before: "Learnt") -> None:
        """Refuse to go on from weights of another network.

        Raises:
            OptionError: If the layers differ.
        """
        if (self.hidden, self.cosine) != (before.hidden, before.cosine):
            raise OptionError(
                f"warm_start goes on with the network of the fit before, hidden={before.hidden}"
                f"{' ending in cosines' if before.cosine else ''}; set warm_start=False to begin with another one."
            )

    def logits(self, model: nn.Module, rows: Tensor, device: torch.device) -> Tensor:
        """Logits of features ``(N, F)``: shape ``(N, C)``, on the CPU, float64 where the device has it."""
        return outputs_of(model, rows, device) * self.scale - self.shift
