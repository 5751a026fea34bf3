"""Stratified splits that keep training samples of rare classes."""

import torch
from torch import Tensor

from imbsam.errors import OptionError

SMALLEST_SPLIT_CLASS = 3
"""Number of samples below which a class stays whole in the training part."""


def random_ranks(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle each class separately.

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, at least 0.
        generator: Source of the random order.

    Returns:
        Rank of each sample, from 0, in the random order of its class, shape ``(N,)``.
    """
    shuffled = torch.randperm(len(targets), generator=generator)
    ranks = torch.empty_like(targets)
    ranks[shuffled] = ranks_in_order(targets[shuffled])
    return ranks


def ranks_in_order(targets: Tensor) -> Tensor:
    """Count each class separately.

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, at least 0.

    Returns:
        Number of samples of the same class before each sample, shape ``(N,)``.
    """
    by_class = targets.argsort(stable=True)
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    ranks = torch.empty_like(targets)
    ranks[by_class] = torch.arange(len(targets)) - starts[targets[by_class]]
    return ranks


def stratified_split(targets: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hold out a share of every class.

    A class of three samples or more gives at least one and keeps at least one; a smaller class gives none.

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, at least 0.
        fraction: Share of each class to hold out, in [0, 1).
        generator: Source of the random choice.

    Returns:
        Indices kept and indices held out, both ascending.

    Raises:
        OptionError: If the fraction is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise OptionError(f"a split's fraction must be in [0, 1); got {fraction}.")
    if fraction == 0:
        return torch.arange(len(targets)), torch.arange(0)
    counts = torch.bincount(targets)
    share = (counts * fraction).round().long().clamp(min=1).minimum(counts - 1)
    share[counts < SMALLEST_SPLIT_CLASS] = 0
    held = random_ranks(targets, generator) < share[targets]
    return (~held).nonzero().flatten(), held.nonzero().flatten()
