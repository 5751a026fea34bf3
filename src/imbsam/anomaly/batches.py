"""Batches of training rows, at random or with a fixed number of labelled anomalies."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY
from imbsam.errors import OptionError


@dataclass(frozen=True)
class Batching:
    """Composition of batches.

    Args:
        size: Number of samples in a batch, at least 2.
        anomalies: Number of samples with a labelled anomaly; 0 leaves it to chance. A few labels are repeated from
            batch to batch, and within a batch if it needs more than there are.

    Raises:
        OptionError: If a number is out of range, or the anomalies leave no room for other rows.
    """

    size: int
    anomalies: int = 0

    def __post_init__(self) -> None:
        if self.size < 2:
            raise OptionError(f"batch_size must be at least 2; got {self.size}.")
        if not 0 <= self.anomalies < self.size:
            raise OptionError(
                f"anomalies_per_batch must be at least 0 and below batch_size={self.size}; got {self.anomalies}."
            )


def row_batches(kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of rows in which every row that is not a labelled anomaly occurs exactly once.

    Args:
        kinds: Kinds of each row, shape ``(N,)``.
        batching: Composition of the batches. With ``anomalies=0``, labelled anomalies occur exactly once, too.
        draw: Source of the order.

    Yields:
        Row numbers, shape ``(B,)``. The last batch may be smaller; a single row left over joins the one before it,
        because BatchNorm cannot train on one row.
    """
    labelled = (kinds == ANOMALY).nonzero().squeeze(1)
    if not batching.anomalies or not len(labelled):
        yield from cut(torch.randperm(len(kinds), generator=draw), batching.size)
        return
    others = (kinds != ANOMALY).nonzero().squeeze(1)
    others = others[torch.randperm(len(others), generator=draw)]
    parts = cut(others, batching.size - batching.anomalies)
    drawn = in_turns(labelled, batching.anomalies * len(parts), draw)
    for part, anomalies in zip(parts, drawn.view(len(parts), batching.anomalies), strict=True):
        yield torch.cat([part, anomalies])


def pair_batches(kinds: Tensor, batching: Batching, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of pairs: two other rows, an other row and a labelled anomaly, or two different anomalies.

    Every row that is not a labelled anomaly is first in a pair exactly once. Half of the pairs with a labelled anomaly
    have two, if there are two.

    Args:
        kinds: Kinds of each row, shape ``(N,)``, at least one labelled anomaly and one other row among them.
        batching: Composition of the batches, in which ``anomalies`` pairs have a labelled anomaly.
        draw: Source of the pairs.

    Yields:
        Row numbers, shape ``(B, 2)``, and the number of labelled anomalies in each pair, shape ``(B,)``.

    Raises:
        OptionError: If ``anomalies`` is 0.
    """
    if not batching.anomalies:
        raise OptionError("anomalies_per_batch=0 makes no pair with a labelled anomaly: choose at least 1.")
    labelled = (kinds == ANOMALY).nonzero().squeeze(1)
    others = (kinds != ANOMALY).nonzero().squeeze(1)
    doubles = batching.anomalies // 2 if len(labelled) > 1 else 0
    mixed = batching.anomalies - doubles
    first = others[torch.randperm(len(others), generator=draw)]
    for part in cut(first, batching.size - doubles):
        mixed_here = min(mixed, len(part))
        partners = others[torch.randint(len(others), (len(part) - mixed_here,), generator=draw)]
        anomalies = labelled[torch.randint(len(labelled), (mixed_here,), generator=draw)]
        pairs = [torch.stack([part, torch.cat([anomalies, partners])], dim=1), _two_different(labelled, doubles, draw)]
        held = torch.tensor([1] * mixed_here + [0] * len(partners) + [2] * doubles)
        yield torch.cat(pairs), held


def pair_counts(kinds: Tensor) -> Tensor:
    """Count the pairs with no, one and two labelled anomalies, shape ``(3,)``."""
    labelled = int((kinds == ANOMALY).sum())
    others = len(kinds) - labelled
    return torch.tensor([others * others, 2 * others * labelled, labelled * labelled])


def cut(order: Tensor, size: int) -> list[Tensor]:
    """Yield consecutive pieces of ``size``; a piece of one element joins the one before it."""
    pieces = list(torch.split(order, size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def in_turns(values: Tensor, number: int, draw: torch.Generator) -> Tensor:
    """Draw ``number`` of the values, each again only after all others."""
    rounds = -(-number // len(values))
    drawn = [values[torch.randperm(len(values), generator=draw)] for _ in range(rounds)]
    return torch.cat(drawn)[:number]


def _two_different(values: Tensor, number: int, draw: torch.Generator) -> Tensor:
    if not number:
        return values.new_empty(0, 2)
    first = torch.randint(len(values), (number,), generator=draw)
    step = torch.randint(1, len(values), (number,), generator=draw)
    return torch.stack([values[first], values[(first + step) % len(values)]], dim=1)
