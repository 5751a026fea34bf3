"""Samplers: the order of the training samples in an epoch, and which of them are repeated."""

from typing import Literal, get_args

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.priors import ClassPriors

Sampler = Literal["shuffle", "balanced", "square-root", "repeated", "gathered"]


def check_sampler(sampler: str, *, shuffle: bool, tail: Tensor | None, tail_rows: int) -> None:
    """Refuse a sampler that does not exist, or that lacks an option.

    Args:
        sampler: Name of the sampler, one of :data:`Sampler`.
        shuffle: Whether the order is random.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``; ``"gathered"`` needs it.
        tail_rows: Number of tail samples in a batch, for ``"gathered"``.

    Raises:
        OptionError: If the sampler is unknown or lacks an option.
    """
    if sampler not in get_args(Sampler):
        raise OptionError(f"sampler must be one of {', '.join(get_args(Sampler))}; got {sampler!r}.")
    if sampler != "shuffle" and not shuffle:
        raise OptionError(f"sampler={sampler!r} draws at random; it needs shuffle=True.")
    if sampler == "gathered" and (tail is None or tail_rows < 1):
        raise OptionError(f"sampler='gathered' needs the tail classes and tail_rows of at least 1; got {tail_rows}.")


def epoch_order(
    sampler: Sampler,
    targets: Tensor,
    generator: torch.Generator,
    *,
    batch_size: int,
    tail: Tensor | None = None,
    tail_rows: int = 16,
    repeat_threshold: float | None = None,
) -> Tensor:
    """Draw the samples of an epoch, in their order.

    Args:
        sampler: Name of the sampler, checked.
        targets: Class of each sample, shape ``(N,)``, int64.
        generator: Source of the random draws.
        batch_size: Rows per batch.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``, for ``"gathered"``.
        tail_rows: Number of tail samples in a batch, for ``"gathered"``.
        repeat_threshold: Threshold of :meth:`imbsam.priors.ClassPriors.repeat_factors`, for ``"repeated"``.

    Returns:
        Indices of samples, int64; N of them, and more for ``"repeated"``.
    """
    if sampler == "balanced":
        return class_weighted(targets, generator, power=0.0)
    if sampler == "square-root":
        return class_weighted(targets, generator, power=0.5)
    if sampler == "repeated":
        return repeated(targets, generator, threshold=repeat_threshold)
    if sampler == "gathered" and tail is not None:
        return gathered(tail[targets], generator, batch_size=batch_size, together=tail_rows)
    return torch.randperm(len(targets), generator=generator)


def class_weighted(targets: Tensor, generator: torch.Generator, *, power: float) -> Tensor:
    """Draw samples with replacement, first a class and then one of its samples (Kang et al. 2020, section 3.1).

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, at least 0.
        generator: Source of the random draws.
        power: Exponent of the count to which the probability of a class is proportional; 0 balances the classes.

    Returns:
        N indices.
    """
    by_class = targets.argsort(stable=True)
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().flatten()
    if power:
        weights = (counts[present].double() ** power).cumsum(0)
        point = torch.rand(len(targets), generator=generator, dtype=torch.float64) * weights[-1]
        drawn = present[torch.searchsorted(weights, point, right=True).clamp(max=len(present) - 1)]
    else:
        drawn = present[torch.randint(len(present), (len(targets),), generator=generator)]
    place = (torch.rand(len(targets), generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + place]


def repeated(targets: Tensor, generator: torch.Generator, *, threshold: float | None = None) -> Tensor:
    """Shuffle the samples and some copies of those of rare classes (Gupta et al. 2019, LVIS, appendix).

    A sample of a class with repeat factor r occurs ``floor(r)`` times, and once more with the remaining probability.
    These extra copies are drawn systematically, so that every epoch has the same number of samples.

    Args:
        targets: Class of each sample, shape ``(N,)``, int64, at least 0.
        generator: Source of the random draws.
        threshold: Threshold of :meth:`imbsam.priors.ClassPriors.repeat_factors`.

    Returns:
        At least N indices, the same number in each epoch.
    """
    factors = ClassPriors.from_targets(targets).repeat_factors(threshold)[targets]
    whole = factors.floor()
    # In a shuffled order, so that a step of the systematic draw does not meet one class at a regular distance.
    order = torch.randperm(len(targets), generator=generator)
    ends = (factors - whole)[order].cumsum(0)
    further = round(float(ends[-1]))
    copies = whole.long()
    if further:
        points = (torch.arange(further) + torch.rand((), generator=generator, dtype=torch.float64)) / further
        drawn = torch.searchsorted(ends, points * ends[-1], right=True).clamp(max=len(order) - 1)
        copies += torch.bincount(order[drawn], minlength=len(targets))
    several = torch.arange(len(targets)).repeat_interleave(copies)
    return several[torch.randperm(len(several), generator=generator)]


def gathered(in_tail: Tensor, generator: torch.Generator, *, batch_size: int, together: int) -> Tensor:
    """Shuffle so that tail samples are together in some of the batches, each sample once.

    Args:
        in_tail: Whether each sample is of a tail class, bool, shape ``(N,)``.
        generator: Source of the random draws.
        batch_size: Rows per batch.
        together: Approximate number of tail samples in a batch that has any.

    Returns:
        N indices, one batch after the other.
    """
    order = torch.randperm(len(in_tail), generator=generator)
    tail, head = order[in_tail[order]], order[~in_tail[order]]
    full = len(order) // batch_size
    groups = min(-(-len(tail) // together), full)
    if not groups:
        return order
    chosen = torch.randperm(full, generator=generator)[:groups]
    sizes = torch.zeros(full, dtype=torch.long)
    sizes[chosen] = torch.tensor([len(part) for part in tail.tensor_split(groups)]).clamp(max=batch_size)
    placed = int(sizes.sum())
    rest = torch.cat([head, tail[placed:]])
    beside = torch.split(rest[: full * batch_size - placed], (batch_size - sizes).tolist())
    pieces = [part for both in zip(torch.split(tail[:placed], sizes.tolist()), beside, strict=True) for part in both]
    return torch.cat([*pieces, rest[full * batch_size - placed :]])
