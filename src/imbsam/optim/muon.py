"""Muon for a model's hidden matrices and AdamW for the rest, as one base."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim._several import Several

NOT_HIDDEN = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
"""Modules whose weights may have two dimensions and are not matrices that a layer multiplies by."""


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Find the weights that Muon is made for: matrices of the hidden layers (Jordan et al. 2024).

    Args:
        model: Model whose modules are in the order in which the data pass through them; the last module with a weight
            of two or more dimensions counts as the output layer.

    Returns:
        The 2-D parameters with "weight" in their own name, without those of embeddings, normalisations and the output
        layer, and without those that are shared with one of them.
    """
    layers: list[set[Tensor]] = []
    others: set[Tensor] = set()
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        weights: set[Tensor] = {p for name, p in own.items() if "weight" in name and p.ndim >= 2}
        if isinstance(module, NOT_HIDDEN):
            others |= weights
        elif weights:
            layers.append(weights)
    others |= layers.pop() if layers else set()
    return {p for weights in layers for p in weights if p.ndim == 2} - others


def muon(model: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> Several:
    """Make a base of Muon for hidden matrices and AdamW for embeddings, output layer, convolutions, norms and biases.

    Muon's update is scaled to the size of AdamW's (``adjust_lr_fn="match_rms_adamw"``, Liu et al. 2025), so that one
    learning rate and one weight decay suit both: those that AdamW alone would get.

    Args:
        model: Model whose parameters that require a gradient are optimised.
        lr: Learning rate of both.
        momentum: Momentum of Muon; AdamW has its own betas.
        weight_decay: Decoupled weight decay of both.

    Raises:
        OptionError: If the model has no hidden matrix to optimise.
    """
    hidden = hidden_matrices(model)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [(name, p) for name, p in named if p in hidden]
    rest = [(name, p) for name, p in named if p not in hidden]
    if not matrices:
        raise OptionError(
            f"base 'muon' is for matrices of hidden layers, but {type(model).__name__} has none to optimise: "
            "embeddings, convolutions and the output layer are AdamW's. Choose base 'adamw', or give your own "
            "list of optimizers."
        )
    made: list[Optimizer] = [
        torch.optim.Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    ]
    if rest:
        made.append(torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay))
    return Several(made)
