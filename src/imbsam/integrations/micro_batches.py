"""Micro-batches of one step, which a framework passes on one by one, and the passes over all of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from imbsam.errors import DataError, PassError
from imbsam.integrations.batches import BatchReader
from imbsam.integrations.batches import take_rows as take_rows
from imbsam.integrations.rows import Read, joined
from imbsam.integrations.targets import targets_of as targets_of
from imbsam.optim import Pass, SharpnessAware

RowLosses = Callable[[object], Tensor]
"""Function from a batch, or some of its rows, to the loss of each row."""
TakeRows = Callable[[object, Tensor], object]
"""Function from a batch and indices on the CPU to these rows; ``NotImplemented`` for what can be cut as usual."""


class MicroBatches:
    """Micro-batches that wait for the next step, which is the same as on one batch with all their rows.

    The batches wait, not their gradients: the direction of the tail's ascent depends on all tail rows of the step.

    Args:
        take_rows: Function that cuts batches other than tensors, lists and constants in known containers; for those it
            returns ``NotImplemented``.

    Attributes:
        reader: Reader of the batches.
    """

    def __init__(self, take_rows: TakeRows | None = None) -> None:
        self._own_take_rows = take_rows
        self.reader = BatchReader()
        self._batches: list[object] = []
        self._targets: list[Tensor] = []

    def add(self, batch: object, targets: Tensor) -> None:
        """Append a micro-batch.

        Args:
            batch: Batch, as for :func:`~imbsam.integrations.batches.take_rows` or the ``take_rows`` given here.
            targets: Class of each row, shape ``(B,)``, or other targets that the method takes.
        """
        # A batch of another size tells which of its lists have one thing for each row.
        self.reader.read(batch, targets.size(0))
        self._batches.append(batch)
        self._targets.append(targets.detach().cpu())

    def clear(self) -> None:
        """Drop the waiting batches."""
        self._batches.clear()
        self._targets.clear()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def targets(self) -> Tensor:
        """Class of each row of all batches, on the CPU.

        Raises:
            DataError: If those of the batches have different shapes.
            PassError: If there are none.
        """
        if not self._targets:
            raise PassError(
                "no batch waits for this step: a hook of the integration was overridden without calling super()."
            )
        shapes = {tuple(y.shape[1:]) for y in self._targets}
        if len(shapes) > 1:
            raise DataError(
                f"the batches of one step have targets of different shapes: {sorted(map(str, shapes))} behind the rows."
            )
        return torch.cat(self._targets)

    @property
    def largest(self) -> int:
        """Rows of the largest batch: no forward has more, so memory is that of one micro-batch."""
        return max(len(y) for y in self._targets)

    def take(self, rows: Tensor) -> list[object]:
        """Take some of the rows, as one batch if their forms agree, else as one for each micro-batch.

        Args:
            rows: Ascending indices into :attr:`targets`, shape ``(R,)``, on the CPU.
        """
        taken: list[tuple[object, Read | None]] = []
        start = 0
        for batch, y in zip(self._batches, self._targets, strict=True):
            own = rows[(rows >= start) & (rows < start + len(y))] - start
            if len(own):
                taken.append(self._cut(batch, own, len(y)))
            start += len(y)
        read = [part for _, part in taken if part is not None]
        whole = joined(read) if len(read) == len(taken) else None
        return [value for value, _ in taken] if whole is None else [whole.value]

    def _cut(self, batch: object, rows: Tensor, size: int) -> tuple[object, Read | None]:
        """Cut a batch, and what is known of its rows, unless a ``take_rows`` of the user cuts it."""
        if self._own_take_rows is not None and len(rows) < size:
            value = self._own_take_rows(batch, rows)
            if value is not NotImplemented:
                return value, None
        part = self.reader.read(batch, size)
        part = part if len(rows) == size else part.take(rows)
        return part.value, part


def make_passes(
    optimizer: SharpnessAware,
    batches: MicroBatches,
    row_losses: RowLosses,
    *,
    backward: Callable[[Pass, Tensor], None] = Pass.backward,
    loss_scale: float = 1.0,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Make the passes of one step over the waiting batches; the gradient is then in ``.grad``.

    Args:
        optimizer: The method.
        batches: Waiting batches; empty afterwards.
        row_losses: Function that computes the losses of rows.
        backward: Function called with each micro-batch of a pass and its losses.
        loss_scale: Factor by which ``backward`` multiplies losses.
        no_sync: Context entered around all micro-batches of a pass except the last. Each pass is synchronised once, so
            that ranks whose passes have different numbers of micro-batches do not wait for ever.

    Returns:
        Mean loss of the rows at the unperturbed weights.
    """
    try:
        with torch.enable_grad(), optimizer.passes(batches.targets, loss_scale=loss_scale) as passes:
            for each in passes:
                last = (len(each.rows) - 1) // batches.largest
                for number, piece in enumerate(each.split(batches.largest)):
                    sync = nullcontext() if number == last else no_sync()
                    with sync, torch.set_grad_enabled(each.needs_gradient):
                        parts = batches.take(piece.rows)
                        # Ranks that share sharded weights forward as often as each other; what is idle counts nothing.
                        idle = parts[:1] * (passes.most_on_any_rank(len(parts)) - len(parts))
                        losses = [row_losses(part) for part in parts + idle]
                        whole = losses[0] if len(losses) == 1 else torch.cat(losses)
                        backward(piece, whole[: len(piece.rows)] if idle else whole)
    finally:
        batches.clear()
    return passes.loss


def use_model(optimizer: SharpnessAware, model: nn.Module) -> None:
    """Tell an optimizer that its model has been wrapped since, for example for distributed training.

    Args:
        optimizer: The method.
        model: The model as it is called in training.
    """
    if optimizer.model is not model:
        optimizer.bind(model)
