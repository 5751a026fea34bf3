"""Which training rows stand in which batch: left to chance, or with labelled anomalies guaranteed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY
from imbsam.errors import OptionError


@dataclass(frozen=True)
class Batching:
    """How batches are put together.

    Args:
        size: Samples in a batch, at least 2.
        anomalies: Anomalies of them, how many hold a labelled anomaly; 0 leaves it to chance. A few labels are then
            repeated from batch to batch, and within one where it asks for more than there are.

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
    """Batches of rows, in which every row that is not a labelled anomaly stands exactly once.

    Args:
        kinds: Kinds of each row, shape ``(N,)``.
        batching: With ``anomalies=0``, or without a labelled anomaly, labelled anomalies too stand exactly once.
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
    """Batches of pairs: of two other rows, of an other row and a labelled anomaly, of two different anomalies.

    Every row that is not a labelled anomaly stands first in a pair exactly once. Of the pairs with a labelled anomaly
    half have two, where there are two.

    Args:
        kinds: Kinds of each row, shape ``(N,)``, at least one labelled anomaly and one other row among them.
        batching: ``anomalies`` pairs of each batch hold a labelled anomaly.
        draw: Source of the pairs.

    Yields:
        Row numbers, shape ``(B, 2)``, and how many labelled anomalies each pair holds, shape ``(B,)``.

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
    """Return how many pairs there are with no, one and two labelled anomalies, shape ``(3,)``."""
    labelled = int((kinds == ANOMALY).sum())
    others = len(kinds) - labelled
    return torch.tensor([others * others, 2 * others * labelled, labelled * labelled])


def cut(order: Tensor, size: int) -> list[Tensor]:
    """Consecutive pieces of ``size``; a piece of one element joins the one before it."""
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
