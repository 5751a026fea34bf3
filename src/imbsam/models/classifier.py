"""The last layer of a network: linear or cosine layers, and the search for it in models of other libraries."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class CosineClassifier(nn.Module):
    """Cosine between the features and the weight vector of each class (Cao et al. 2019, for the LDAM loss).

    Features ``(B, in_features)`` give logits ``(B, num_classes)`` in [-scale, scale]. No bias. Features that are all
    zero give zeros.

    Args:
        in_features: Length of the feature vectors.
        num_classes: Number of classes C.
        scale: Factor on the cosines.
    """

    def __init__(self, in_features: int, num_classes: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = num_classes
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(num_classes, in_features) / in_features**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Scaled cosines, shape ``(B, num_classes)``."""
        # The default floor of 1e-12 is 0 in float16, and a feature vector of zeros would become NaN.
        cosines = linear(normalize(features, eps=1e-6), normalize(self.weight, eps=1e-6))
        return cosines if self.scale == 1 else self.scale * cosines


def classifier_layer(in_features: int, num_classes: int, *, cosine: bool) -> nn.Linear | CosineClassifier:
    """Make the last layer of a network.

    Args:
        in_features: Length of the feature vectors.
        num_classes: Number of classes C.
        cosine: Make a cosine layer instead of a linear one.

    Returns:
        The layer.
    """
    return CosineClassifier(in_features, num_classes) if cosine else nn.Linear(in_features, num_classes)


def classifier_name(model: nn.Module, num_classes: int) -> str | None:
    """Find the last layer: of the linear and cosine layers of C outputs, ``model.classifier`` or else the only one.

    Args:
        model: Any module.
        num_classes: Number of classes C.

    Returns:
        Its dotted name within the model; None if there is no such layer, or several.
    """
    names = [
        name
        for name, module in model.named_modules()
        if name and isinstance(module, nn.Linear | CosineClassifier) and module.out_features == num_classes
    ]
    if "classifier" in names:
        return "classifier"
    return names[0] if len(names) == 1 else None


def classifier_of(model: nn.Module, num_classes: int) -> tuple[str, nn.Linear | CosineClassifier] | None:
    """Find the last layer as :func:`classifier_name` does: its name and the layer itself, or None.

    Args:
        model: Any module.
        num_classes: Number of classes C.
    """
    name = classifier_name(model, num_classes)
    if name is None:
        return None
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear | CosineClassifier)
    return name, layer
