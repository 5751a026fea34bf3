"""The batches of an epoch, each a pure function of (seed, epoch, batch number)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from imbsam.data.dataset import Samples
from imbsam.data.draws import Draws, RowDraws
from imbsam.data.images import ImageFiles
from imbsam.data.seeding import AUGMENTATION, ORDER, generator
from imbsam.data.shards import WHOLE, Shard
from imbsam.data.transforms import ImageNetAugmentation, Transform
from imbsam.errors import DataError, OptionError

Sampler = Literal["shuffle", "balanced", "gathered"]
Batch = tuple[Tensor, Tensor]


def batches(
    samples: Samples,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    shuffle: bool,
    transform: Transform,
    workers: int = 0,
    sampler: Sampler = "shuffle",
    tail: Tensor | None = None,
    tail_rows: int = 16,
    shard: Shard = WHOLE,
) -> "Epoch":
    """Go over the samples once.

    Any number of workers gives the same batches, and starting at batch ``start`` gives what an uninterrupted epoch
    gives from there on. Torch's global random state is neither read nor changed.

    The last batch may be smaller; if a single row would be left over, it joins the batch before it, because
    BatchNorm cannot train on one row.

    Args:
        samples: What to go over.
        batch_size: Rows per batch.
        seed: The run's seed.
        epoch: Which epoch this is; each has its own order and its own augmentation.
        start: First batch wanted, to resume an epoch.
        shuffle: Draw the order; otherwise the samples come as they stand.
        transform: From raw samples to model inputs.
        workers: Processes that prepare batches; 0 prepares them in this one.
        sampler: ``"shuffle"``: every sample once. ``"balanced"``: as many draws, each of a class uniformly and then
            of one of its samples (Kang et al. 2020, section 3.1, q = 0). ``"gathered"``: every sample once, those of
            tail classes together in some of the batches, so that what a method forwards for them alone is worth it.
        tail: Marks the tail classes, bool, shape ``(C,)``, for ``"gathered"``.
        tail_rows: Tail samples that stand together, about; more where there are not enough batches for so few.
        shard: The part of each batch that is wanted; its rows are the very ones the whole batch has.

    Returns:
        An iterable of ``(inputs, targets)``, float32 ``(b, ...)`` and int64 ``(b,)``, with a length.

    Raises:
        OptionError: If an option is out of range or in conflict with another.
    """
    if sampler not in ("shuffle", "balanced", "gathered"):
        raise OptionError(f"sampler must be 'shuffle', 'balanced' or 'gathered'; got {sampler!r}.")
    if sampler != "shuffle" and not shuffle:
        raise OptionError(f"sampler={sampler!r} draws at random; it needs shuffle=True.")
    if sampler == "gathered" and (tail is None or tail_rows < 1):
        raise OptionError(f"sampler='gathered' needs the tail classes and tail_rows of at least 1; got {tail_rows}.")
    if batch_size < 1 or workers < 0:
        raise OptionError(f"batch_size must be at least 1 and workers at least 0; got {batch_size} and {workers}.")
    order = torch.arange(len(samples))
    draw = generator(seed, epoch, ORDER)
    if sampler == "balanced":
        order = class_balanced(samples.targets, draw)
    elif sampler == "gathered" and tail is not None:
        order = gathered(tail[samples.targets], draw, batch_size=batch_size, together=tail_rows)
    elif shuffle:
        order = torch.randperm(len(samples), generator=draw)
    epoch_batches = EpochBatches(samples, order, batch_size, seed, epoch, transform, shard)
    if not 0 <= start <= len(epoch_batches):
        raise OptionError(f"start must be in 0..{len(epoch_batches)}, the batches of this epoch; got {start}.")
    loader = DataLoader(
        epoch_batches,
        batch_size=None,
        sampler=range(start, len(epoch_batches)),
        num_workers=workers,
        # Without one of its own a DataLoader draws from the global generator, and dropout after a resume would differ.
        generator=generator(seed, epoch),
    )
    return Epoch(loader, [epoch_batches.rows(number) for number in range(start, len(epoch_batches))])


@dataclass(frozen=True)
class Epoch:
    """The batches that are left of an epoch.

    Args:
        loader: Gives batches, or the errors that workers met.
        rows: Of each whole batch.
    """

    loader: "DataLoader[Batch | DataError]"
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


class EpochBatches(TorchDataset[Batch | DataError]):
    """The batches of one epoch by number; an item is a whole batch."""

    def __init__(
        self,
        samples: Samples,
        order: Tensor,
        batch_size: int,
        seed: int,
        epoch: int,
        transform: Transform,
        shard: Shard = WHOLE,
    ) -> None:
        self.samples = samples
        self.order = order
        self.batch_size = batch_size
        self.transform = transform
        self.seed, self.epoch = seed, epoch
        self.shard = shard

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        joins_the_last = rest == 1 and full > 0
        return full + (rest > 0 and not joins_the_last)

    def rows(self, number: int) -> int:
        """How many rows a batch has, all its shards together."""
        begin = number * self.batch_size
        return len(self.order) - begin if number == len(self) - 1 else self.batch_size

    def __getitem__(self, number: int) -> Batch | DataError:
        try:
            return self._batch(number)
        except DataError as error:
            if get_worker_info() is None:
                raise
            # Raised in a worker it would reach the user wrapped into that worker's traceback.
            return error

    def _batch(self, number: int) -> Batch:
        begin, rows = number * self.batch_size, self.rows(number)
        indices = self.order[begin : begin + rows]
        draw = generator(self.seed, self.epoch, AUGMENTATION, number)
        if self.shard == WHOLE:
            return self._inputs(indices, draw), self.samples.targets[indices]
        own = self.shard.positions(rows)
        return self._inputs(indices[own], RowDraws(draw, own, rows)), self.samples.targets[indices[own]]

    def _inputs(self, indices: Tensor, draw: Draws) -> Tensor:
        if isinstance(self.samples, ImageFiles) and isinstance(self.transform, ImageNetAugmentation):
            windows = self.transform.windows(self.samples.sizes[indices], draw)
            return self.transform.finish(self.samples.windows(indices, windows), draw)
        return self.transform(self.samples.batch(indices), draw)


def class_balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Draw samples with replacement so that every class that is present is equally likely.

    Args:
        targets: Shape ``(N,)``, int64, at least 0.
        generator: Source of the draws.

    Returns:
        N indices.
    """
    by_class = targets.argsort(stable=True)
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().flatten()
    drawn = present[torch.randint(len(present), (len(targets),), generator=generator)]
    place = (torch.rand(len(targets), generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + place]


def gathered(in_tail: Tensor, generator: torch.Generator, *, batch_size: int, together: int) -> Tensor:
    """Shuffle so that tail samples stand together in some of the batches, each sample once.

    Args:
        in_tail: Whether each sample is of a tail class, bool, shape ``(N,)``.
        generator: Source of the draws.
        batch_size: Rows per batch.
        together: Tail samples in a batch that has any, about.

    Returns:
        N indices, a batch after the other.
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
