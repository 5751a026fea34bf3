"""Batches of an epoch, each a pure function of (seed, epoch, batch number)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from imbsam.data.dataset import Samples
from imbsam.data.draws import Draws, RowDraws
from imbsam.data.images import ImageFiles
from imbsam.data.mixing import Mixing
from imbsam.data.samplers import Sampler, check_sampler, epoch_order
from imbsam.data.seeding import AUGMENTATION, MIXING, ORDER, generator
from imbsam.data.shards import WHOLE, Shard
from imbsam.data.transforms import ImageNetAugmentation, Transform
from imbsam.errors import DataError, OptionError

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
    repeat_threshold: float | None = None,
    mixing: Mixing | None = None,
    shard: Shard = WHOLE,
) -> "Epoch":
    """Yield the batches of one epoch over the samples.

    The batches are the same for any number of workers, and batches from ``start`` on are those of an uninterrupted
    epoch. Torch's global random state is neither read nor changed.

    The last batch may be smaller; if a single row would be left over, it joins the batch before it, because
    BatchNorm cannot train on one row.

    Args:
        samples: Samples to divide into batches.
        batch_size: Rows per batch.
        seed: The run's seed.
        epoch: Number of the epoch; each has its own order and its own augmentation.
        start: Number of the first batch, to resume an epoch.
        shuffle: Draw a random order; otherwise the samples keep theirs.
        transform: Function from raw samples to model inputs.
        workers: Number of processes that prepare batches; 0 prepares them in this one.
        sampler: ``"shuffle"`` takes every sample once. ``"balanced"`` makes as many draws, each of a class uniformly
            and then of one of its samples (Kang et al. 2020, section 3.1, q = 0); ``"square-root"`` draws a class in
            proportion to the root of its count (q = 1/2). ``"repeated"`` takes every sample once, and copies of those
            of rare classes (:meth:`imbsam.priors.ClassPriors.repeat_factors`). ``"gathered"`` takes every sample once,
            and puts those of tail classes together into some of the batches, so that a pass over the tail rows alone
            has enough rows to be efficient.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``, for ``"gathered"``.
        tail_rows: Approximate number of tail samples in one batch, for ``"gathered"``; more where there are not enough
            batches for so few.
        repeat_threshold: Share of the samples below which ``"repeated"`` repeats a class; 1 / C by default.
        mixing: Mixing of the rows of each batch, such as mixup.
        shard: Part of each batch to return; its rows are exactly those of the whole batch.

    Returns:
        An iterable of ``(inputs, targets)``, float32 ``(b, ...)`` and int64 ``(b,)``, or memberships float32 ``(b, C)``
        of mixed rows, with a length.

    Raises:
        OptionError: If an option is out of range or in conflict with another.
    """
    check_sampler(sampler, shuffle=shuffle, tail=tail, tail_rows=tail_rows)
    if batch_size < 1 or workers < 0:
        raise OptionError(f"batch_size must be at least 1 and workers at least 0; got {batch_size} and {workers}.")
    order = torch.arange(len(samples))
    if shuffle:
        order = epoch_order(
            sampler,
            samples.targets,
            generator(seed, epoch, ORDER),
            batch_size=batch_size,
            tail=tail,
            tail_rows=tail_rows,
            repeat_threshold=repeat_threshold,
        )
    epoch_batches = EpochBatches(samples, order, batch_size, seed, epoch, transform, mixing, shard)
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
    """Remaining batches of an epoch.

    Args:
        loader: Loader of batches, or of errors that occurred in workers.
        rows: Number of rows of each whole batch.
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
    """Batches of one epoch by number; an item is a whole batch."""

    def __init__(
        self,
        samples: Samples,
        order: Tensor,
        batch_size: int,
        seed: int,
        epoch: int,
        transform: Transform,
        mixing: Mixing | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        self.samples = samples
        self.order = order
        self.batch_size = batch_size
        self.transform = transform
        self.seed, self.epoch = seed, epoch
        self.mixing = mixing
        self.shard = shard

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        joins_the_last = rest == 1 and full > 0
        return full + (rest > 0 and not joins_the_last)

    def rows(self, number: int) -> int:
        """Return the number of rows of a batch, all its shards together."""
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
        own = torch.arange(rows) if self.shard == WHOLE else self.shard.positions(rows)
        targets = self.samples.targets[indices]
        inputs = self._rows(number, indices, own)
        if self.mixing is None:
            return inputs, targets[own]
        blending = self.mixing.drawn(rows, generator(self.seed, self.epoch, MIXING, number))
        partners = blending.partners[own]
        others = inputs[partners] if self.shard == WHOLE else self._rows(number, indices, partners)
        mixed = blending.inputs(inputs, others)
        return mixed, blending.targets(targets[own], targets[partners], mixed)

    def _rows(self, number: int, indices: Tensor, own: Tensor) -> Tensor:
        """Return some rows of a batch, exactly as they are in the whole batch."""
        draw = generator(self.seed, self.epoch, AUGMENTATION, number)
        return self._inputs(indices[own], draw if self.shard == WHOLE else RowDraws(draw, own, len(indices)))

    def _inputs(self, indices: Tensor, draw: Draws) -> Tensor:
        if isinstance(self.samples, ImageFiles) and isinstance(self.transform, ImageNetAugmentation):
            windows = self.transform.windows(self.samples.sizes[indices], draw)
            return self.transform.finish(self.samples.windows(indices, windows), draw)
        return self.transform(self.samples.batch(indices), draw)
