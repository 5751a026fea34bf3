"""The micro-batches of one step, which a framework hands over one by one, and the passes over all of them."""

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
"""From a batch, or some of its rows, to the loss of each row."""
TakeRows = Callable[[object, Tensor], object]
"""From a batch and indices on the CPU to these rows; ``NotImplemented`` for what can be cut as usual."""


class MicroBatches:
    """What waits for the next step. A step over k micro-batches is the step over one batch of all their rows.

    The batches wait, not their gradients: where the tail climbs depends on the whole batch's tail.

    Args:
        take_rows: Cuts batches that are not of tensors, lists and constants in containers that are known; for others
            it returns ``NotImplemented``.

    Attributes:
        reader: What is known of the form of the batches.
    """

    def __init__(self, take_rows: TakeRows | None = None) -> None:
        self._own_take_rows = take_rows
        self.reader = BatchReader()
        self._batches: list[object] = []
        self._targets: list[Tensor] = []

    def add(self, batch: object, targets: Tensor) -> None:
        """Append a micro-batch.

        Args:
            batch: As :func:`~imbsam.integrations.batches.take_rows` takes it, or the ``take_rows`` given here.
            targets: Class of each row, shape ``(B,)``, or what else the method takes.
        """
        # A batch of another size tells which of its lists have one thing for each row.
        self.reader.read(batch, targets.size(0))
        self._batches.append(batch)
        self._targets.append(targets.detach().cpu())

    def clear(self) -> None:
        """Forget them."""
        self._batches.clear()
        self._targets.clear()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def targets(self) -> Tensor:
        """Class of each row of all of them, on the CPU.

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
        """Rows of the largest: no forward has more, so memory is what one micro-batch needs."""
        return max(len(y) for y in self._targets)

    def take(self, rows: Tensor) -> list[object]:
        """Take some of the rows, as one batch where their forms agree, else as one for each micro-batch.

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
        """Cut a batch; what is read of it, too, where it is not cut by another's ``take_rows``."""
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
    """Make the passes of one step over the batches that wait; the gradient lies in ``.grad`` afterwards.

    Args:
        optimizer: The method.
        batches: What waits; left empty.
        row_losses: The forward.
        backward: Called with each micro-batch of a pass and its losses.
        loss_scale: What ``backward`` multiplies losses by.
        no_sync: Entered around all micro-batches of a pass but the last. Each pass is synchronised once, so that ranks
            whose passes have different numbers of micro-batches still meet.

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
    """Tell an optimizer into what its model has been wrapped since, as for distributed training.

    Args:
        optimizer: The method.
        model: The model as it is called in training.
    """
    if optimizer.model is not model:
        optimizer.bind(model)
