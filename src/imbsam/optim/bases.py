"""Base optimizers by name, for all parameters of a model."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim.muon import muon


def _one(kind: Callable[..., Optimizer], *rates: str) -> Callable[..., Optimizer]:
    """Make one optimizer for all parameters that require a gradient, by the rates that it has."""

    def make(model: nn.Module, **given: float) -> Optimizer:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        return kind(named, **{rate: given[rate] for rate in rates})

    return make


BASES: Mapping[str, Callable[..., Optimizer]] = {
    "sgd": _one(torch.optim.SGD, "lr", "momentum", "weight_decay"),
    "adamw": _one(torch.optim.AdamW, "lr", "weight_decay"),
    "adam": _one(torch.optim.Adam, "lr", "weight_decay"),
    "rmsprop": _one(torch.optim.RMSprop, "lr", "momentum", "weight_decay"),
    "muon": muon,
}
"""Functions that make each base from a model, with keywords ``lr``, ``momentum`` and ``weight_decay``."""


def make_base(name: str, model: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """Make a base optimizer by its name.

    Raises:
        OptionError: If the name is unknown, or the model has no parameter for the optimizer.
    """
    if name not in BASES:
        raise OptionError(f"there is no base optimizer {name!r}; there are {', '.join(BASES)}, or give an instance.")
    return BASES[name](model, lr=lr, momentum=momentum, weight_decay=weight_decay)
