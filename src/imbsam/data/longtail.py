"""Making a balanced training set long-tailed: how many and which samples each class keeps."""

from typing import Literal

import torch
from torch import Tensor

from imbsam.data.splits import random_ranks, ranks_in_order
from imbsam.errors import OptionError

Profile = Literal["exponential", "step"]
Rare = Literal["last", "random"]
Subset = Literal["drawn", "first"]


def long_tail_counts(available: Tensor, imbalance: float, profile: Profile = "exponential") -> Tensor:
    """Compute how many samples each class keeps, most frequent class first (Cui et al. 2019; Cao et al. 2019).

    Exponential: ``n_i = int(n_max * mu^(i / (C - 1)))``. Step: ``n_max`` for the first half of the classes, and
    ``int(n_max * mu)`` for the second; the middle one of an odd number belongs to the first. ``mu = 1 / imbalance``.

    Args:
        available: Number of samples of each class, shape ``(C,)``; ``n_max`` is their maximum.
        imbalance: Ratio of the most frequent to the rarest class, at least 1.
        profile: Shape of the tail.

    Returns:
        Counts, shape ``(C,)``, int64: at least 1 and at most what the class has.

    Raises:
        OptionError: If ``imbalance`` is below 1 or not finite, or the profile is unknown.
    """
    if not 1 <= imbalance < float("inf"):
        raise OptionError(f"imbalance must be a number of at least 1 (largest class / smallest); got {imbalance}.")
    classes, largest, mu = len(available), int(available.max()), 1.0 / imbalance
    if profile == "exponential":
        wanted = [int(largest * mu ** (i / max(classes - 1, 1))) for i in range(classes)]
    elif profile == "step":
        wanted = [largest if i < classes - classes // 2 else int(largest * mu) for i in range(classes)]
    else:
        raise OptionError(f"profile must be 'exponential' or 'step'; got {profile!r}.")
    return torch.tensor(wanted).clamp(min=1).minimum(available)


def long_tail(
    targets: Tensor,
    *,
    imbalance: float,
    profile: Profile = "exponential",
    rare: Rare = "last",
    subset: Subset = "drawn",
    generator: torch.Generator,
) -> Tensor:
    """Choose the samples that stay in the long tail.

    With the same generator state a stronger imbalance keeps a subset of the samples that a weaker one keeps.

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, every class of 0..C-1 present.
        imbalance: Ratio of the most frequent to the rarest class, at least 1.
        profile: See :func:`long_tail_counts`.
        rare: ``"last"`` makes a class rarer the higher its index; ``"random"`` draws the order of rarity.
        subset: ``"drawn"`` draws the samples of a class that stay; ``"first"`` keeps the first ones.
        generator: Source of the random choice of samples (and of rare classes).

    Returns:
        Indices of the samples that stay, ascending.

    Raises:
        OptionError: If an option is out of range.
    """
    if subset not in ("drawn", "first"):
        raise OptionError(f"subset must be 'drawn' or 'first'; got {subset!r}.")
    ranks = random_ranks(targets, generator) if subset == "drawn" else ranks_in_order(targets)
    available = torch.bincount(targets)
    if rare == "random":
        order = torch.randperm(len(available), generator=generator)
    elif rare == "last":
        order = torch.arange(len(available))
    else:
        raise OptionError(f"rare must be 'last' or 'random'; got {rare!r}.")
    keep = torch.empty_like(available)
    keep[order] = long_tail_counts(available[order], imbalance, profile)
    return (ranks < keep[targets]).nonzero().flatten()
