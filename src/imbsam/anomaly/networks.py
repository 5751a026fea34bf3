"""Dense networks of the detectors, whose weights come from a generator of their own, never from torch's global one."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from imbsam.errors import OptionError


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer whose weights are not drawn yet."""
    # On the meta device nothing is drawn from torch's global generator.
    return nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")


def mlp(widths: Sequence[int], *, bias: bool = True) -> nn.Sequential:
    """Make linear layers with ReLU between them.

    Args:
        widths: Widths of the input, each hidden layer and the output, at least two.
        bias: Whether the layers have one.

    Raises:
        OptionError: If a width is below 1.
    """
    checked_widths(widths)
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] * (index > 0) + [linear(inputs, outputs, bias=bias)]
    return nn.Sequential(*layers)


def bias_free(widths: Sequence[int]) -> nn.Sequential:
    """Make the layers of Deep SAD: linear without bias, with BatchNorm without scale and shift and leaky ReLU between.

    Without any bias the network cannot map every row to the centre by ignoring its input (Ruff et al. 2018, prop. 2).

    Args:
        widths: Widths of the input, each hidden layer and the output, at least two.

    Raises:
        OptionError: If a width is below 1.
    """
    checked_widths(widths)
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        if index:
            layers += [nn.BatchNorm1d(inputs, eps=1e-4, affine=False), nn.LeakyReLU(0.01)]
        layers.append(linear(inputs, outputs, bias=False))
    return nn.Sequential(*layers)


def bias_free_decoder(widths: Sequence[int]) -> nn.Sequential:
    """Make the mirror of :func:`bias_free`, back from its output to its input.

    Args:
        widths: Widths of the encoder, input first.
    """
    back = list(widths)[::-1]
    normalised = [nn.BatchNorm1d(back[0], eps=1e-4, affine=False), nn.LeakyReLU(0.01)]
    return nn.Sequential(*normalised, *bias_free(back))


class WithLinearPath(nn.Module):
    """Sum of a network and a linear layer beside it, so that linear relations need not pass the hidden layers.

    Rows ``(B, columns)`` give ``(B, outputs)``.

    Args:
        columns: Number of columns of the input.
        hidden: Units of each hidden layer; empty for the linear layer alone.
        outputs: Number of outputs of both.
    """

    def __init__(self, columns: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.straight = linear(columns, outputs)
        self.deep = mlp([columns, *hidden, outputs]) if hidden else None

    def forward(self, rows: Tensor) -> Tensor:
        """Compute outputs, shape ``(B, outputs)``."""
        straight: Tensor = self.straight(rows)
        return straight if self.deep is None else straight + self.deep(rows)


class Reconstruction(nn.Module):
    """Auto-encoder whose output is its reconstruction error: the mean squared error of each row, shape ``(B,)``."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, rows: Tensor) -> Tensor:
        """Compute errors, shape ``(B,)``."""
        error: Tensor = (self.decoder(self.encoder(rows)) - rows).square().flatten(1).mean(dim=1)
        return error


@torch.no_grad()
def draw_weights(network: nn.Module, draw: torch.Generator) -> None:
    """Draw weights and biases of every layer uniformly within 1 / sqrt(inputs of a unit), as torch's layers do.

    Args:
        network: Network, which is changed in place.
        draw: Source of the numbers, on the CPU.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=draw)


def checked_widths(widths: Sequence[int]) -> None:
    """Refuse a network without a layer, or a layer without units.

    Raises:
        OptionError: If it is such a network.
    """
    if len(widths) < 2 or any(int(width) != width or width < 1 for width in widths):
        raise OptionError(f"layers must be numbers of units of at least 1; got {tuple(widths[1:])}.")
