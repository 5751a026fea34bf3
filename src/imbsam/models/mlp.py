"""The multilayer perceptron, for tables and small images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, InputSpec, TableSpec
from imbsam.models.classifier import classifier_layer
from imbsam.models.layers import initialise


class MLP(nn.Module):
    """Multilayer perceptron of hidden layers with ReLU and a classifier; images are flattened, categories embedded.

    Inputs in the form of ``spec`` give logits ``(B, num_classes)``.

    Args:
        spec: Form of one sample.
        num_classes: Number of classes C.
        hidden: Units of each hidden layer; empty for a linear model.
        cosine_classifier: End in a :class:`CosineClassifier`.

    Raises:
        OptionError: If a hidden layer has less than one unit.
    """

    def __init__(
        self,
        spec: InputSpec,
        num_classes: int,
        *,
        hidden: Sequence[int] = (128, 128),
        cosine_classifier: bool = False,
    ) -> None:
        super().__init__()
        if any(units < 1 for units in hidden):
            raise OptionError(f"hidden must be numbers of units of at least 1; got {tuple(hidden)}.")
        if isinstance(spec, ImageSpec):
            self.inputs: nn.Module = nn.Flatten()
            features = spec.channels * spec.height * spec.width
        else:
            self.inputs = TableInputs(spec)
            features = self.inputs.out_features
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(features, units), nn.ReLU()]
            features = units
        self.hidden = nn.Sequential(*layers)
        self.classifier = classifier_layer(features, num_classes, cosine=cosine_classifier)
        initialise(self)

    def forward(self, samples: Tensor) -> Tensor:
        """Compute logits, shape ``(B, num_classes)``."""
        logits: Tensor = self.classifier(self.hidden(self.inputs(samples)))
        return logits


class TableInputs(nn.Module):
    """Layer that passes numeric columns through and embeds each categorical column.

    Rows ``(B, numeric + len(cardinalities))`` give features ``(B, out_features)``. Rows must be float32 or float64:
    bfloat16 cannot tell the codes above 256 apart.

    Args:
        spec: Form of one row.
    """

    def __init__(self, spec: TableSpec) -> None:
        super().__init__()
        self.numeric = spec.numeric
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_size(n)) for n in spec.cardinalities)
        self.out_features = spec.numeric + sum(embedding_size(n) for n in spec.cardinalities)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute features, shape ``(B, out_features)``."""
        codes = rows[:, self.numeric :].long()
        embedded = [embedding(codes[:, column]) for column, embedding in enumerate(self.embeddings)]
        return torch.cat([rows[:, : self.numeric], *embedded], dim=1)


def embedding_size(cardinality: int) -> int:
    """Return the length of a categorical column's embedding: half its codes, rounded up, 50 at most."""
    return min(50, (cardinality + 1) // 2)
