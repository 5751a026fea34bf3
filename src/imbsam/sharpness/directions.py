"""Directions in the space of the weights."""

import torch
from torch import Tensor

from imbsam.data.seeding import generator
from imbsam.sharpness.surface import LossSurface


def rademacher(surface: LossSurface, *key: int) -> Tensor:
    """Draw a vector of -1 and 1, shape ``(P,)``, which is the same for the same key on any device."""
    signs = torch.randint(0, 2, surface.weights.shape, generator=generator(*key)) * 2 - 1
    return signs.to(surface.weights)


def random_direction(surface: LossSurface, seed: int = 0) -> Tensor:
    """Draw a filter-normalised Gaussian direction, shape ``(P,)``.

    Args:
        surface: Loss surface of the weights.
        seed: The same seed gives models of the same shape the same direction before normalisation.

    Returns:
        The direction; at distance 1 each filter has moved by its own length.
    """
    drawn = torch.randn(surface.weights.shape, generator=generator(seed), dtype=torch.float64)
    return filter_normalised(surface, drawn.to(surface.weights))


def filter_normalised(surface: LossSurface, direction: Tensor) -> Tensor:
    """Scale each filter of a direction to the length of the weights' filter (Li et al. 2018, section 4).

    ``d_ij <- d_ij / |d_ij| * |w_ij|``, where a filter is all weights of one output; biases and the parameters of
    normalisation layers do not move, as in the paper. Surfaces of networks whose layers differ in scale can then be
    compared.

    Args:
        surface: Loss surface of the weights.
        direction: Direction, shape ``(P,)``.

    Returns:
        Tensor of shape ``(P,)``.
    """
    scaled = []
    for name, part in surface.shaped(direction).items():
        weights = surface.shaped(surface.weights)[name]
        if part.ndim <= 1:
            scaled.append(torch.zeros_like(part).flatten())
            continue
        rows, lengths = part.flatten(1), weights.flatten(1).norm(dim=1, keepdim=True)
        scaled.append((rows * (lengths / rows.norm(dim=1, keepdim=True).clamp(min=1e-30))).flatten())
    return torch.cat(scaled)
