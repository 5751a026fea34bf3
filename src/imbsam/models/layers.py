"""Parts that the networks share: the normalisation, and the initial weights."""

from collections.abc import Callable
from math import gcd
from typing import Literal

from torch import nn

from imbsam.errors import OptionError

Norm = Literal["batch", "group"]


def norm_layer(norm: Norm) -> Callable[[int], nn.Module]:
    """Choose the normalisation layer by its name.

    Args:
        norm: ``"batch"``, or ``"group"`` with 8 groups, or fewer where 8 does not divide the channels.

    Returns:
        Function from a number of channels to a layer.

    Raises:
        OptionError: If ``norm`` is neither.
    """
    if norm == "batch":
        return nn.BatchNorm2d
    if norm == "group":
        return lambda channels: nn.GroupNorm(gcd(8, channels), channels)
    raise OptionError(f"norm must be 'batch' or 'group'; got {norm!r}.")


def initialise(model: nn.Module) -> None:
    """Draw the weights of a network that has a ``classifier`` (He et al. 2015) and zero its biases.

    Convolutions are drawn by fan-out and hidden linear layers by fan-in, with the gain of a ReLU; a linear classifier
    by fan-in with gain 1. Normalisation, embeddings and a cosine classifier keep their weights.

    Args:
        model: Network to initialise; changed in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            last = module is model.classifier
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if last else "relu")
            nn.init.zeros_(module.bias)
