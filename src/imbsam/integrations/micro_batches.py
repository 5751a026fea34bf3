"""The micro-batches of one step, which a framework hands over one by one, and the passes over all of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from imbsam.errors import DataError, PassError
from imbsam.optim import Pass, SharpnessAware

RowLosses = Callable[[object], Tensor]
"""From a batch, or some of its rows, to the loss of each row."""


class MicroBatches:
    """What waits for the next step. A step over k micro-batches is the step over one batch of all their rows.

    The batches wait, not their gradients: where the tail climbs depends on the whole batch's tail.
    """

    def __init__(self) -> None:
        self._batches: list[object] = []
        self._targets: list[Tensor] = []

    def add(self, batch: object, targets: Tensor) -> None:
        """Append a micro-batch.

        Args:
            batch: Tensors whose first dimension is the batch, alone or in mappings and sequences.
            targets: Class of each row, shape ``(B,)``.
        """
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
            PassError: If there are none.
        """
        if not self._targets:
            raise PassError(
                "no batch waits for this step: a hook of the integration was overridden without calling super()."
            )
        return torch.cat(self._targets)

    @property
    def largest(self) -> int:
        """Rows of the largest: no forward has more, so memory is what one micro-batch needs."""
        return max(len(y) for y in self._targets)

    def take(self, rows: Tensor) -> list[object]:
        """Some of the rows, as one batch where the tensors' shapes agree, else as one for each micro-batch.

        Args:
            rows: Ascending indices into :attr:`targets`, shape ``(R,)``, on the CPU.
        """
        parts: list[object] = []
        start = 0
        for batch, y in zip(self._batches, self._targets, strict=True):
            own = rows[(rows >= start) & (rows < start + len(y))] - start
            if len(own):
                parts.append(batch if len(own) == len(y) else take_rows(batch, own, len(y)))
            start += len(y)
        return [_joined(parts)] if len({_row_shapes(part) for part in parts}) == 1 else parts


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


def targets_of(batch: object) -> Tensor:
    """Find the classes in a batch: under ``"labels"``, ``"label"``, ``"targets"`` or ``"y"``, or its last element.

    Args:
        batch: A mapping or a sequence.

    Returns:
        The tensor found there; in a batch of B rows its shape is ``(B,)``.

    Raises:
        DataError: If they are not there.
    """
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in ("labels", "label", "targets", "y") if key in batch), None)
    else:
        found = batch[-1] if isinstance(batch, Sequence) and len(batch) > 1 else None
    if isinstance(found, Tensor):
        return found
    raise DataError(
        f"no classes found in a batch of type {type(batch).__name__}: they are looked for under 'labels', 'label', "
        "'targets' or 'y' of a mapping, or as the last element of a pair. Give them yourself."
    )


def take_rows(batch: object, rows: Tensor, size: int) -> object:
    """Take rows of every tensor in a batch.

    Args:
        batch: Tensors, alone or in mappings and sequences; lists of ``size`` other things, as names, are cut too.
        rows: Indices, shape ``(R,)``, on the CPU.
        size: Rows of the batch.

    Raises:
        DataError: If a tensor has another first dimension.
    """

    def taken(leaves: Sequence[object]) -> object:
        (leaf,) = leaves
        if isinstance(leaf, list | tuple) and len(leaf) == size:
            return [leaf[i] for i in rows.tolist()]
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            return leaf
        if len(leaf) != size:
            raise DataError(
                f"a tensor of shape {tuple(leaf.shape)} in a batch of {size} rows cannot be cut into rows: the first "
                "dimension of every tensor of a batch must be the batch."
            )
        return leaf[rows.to(leaf.device)]

    return _mapped(taken, [batch])


def _joined(parts: Sequence[object]) -> object:
    return parts[0] if len(parts) == 1 else _mapped(_joined_leaves, parts)


def _joined_leaves(leaves: Sequence[object]) -> object:
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim]
    lists = [leaf for leaf in leaves if isinstance(leaf, list | tuple)]
    if len(tensors) == len(leaves):
        return torch.cat(tensors)
    if len(lists) == len(leaves):
        return [x for each in lists for x in each]
    return leaves[0]


def _row_shapes(batch: object) -> tuple[torch.Size, ...]:
    found: list[torch.Size] = []
    _mapped(lambda leaves: found.extend(leaf.shape[1:] for leaf in leaves if isinstance(leaf, Tensor)), [batch])
    return tuple(found)


def _mapped(function: Callable[[Sequence[object]], object], batches: Sequence[object]) -> object:
    """Apply a function to the leaves, tensors and lists of other things, that have the same place in each batch."""
    mappings = [batch for batch in batches if isinstance(batch, Mapping)]
    if mappings:
        return {key: _mapped(function, [each[key] for each in mappings]) for key in mappings[0]}
    containers = [batch for batch in batches if isinstance(batch, list | tuple)]
    if not containers or not any(isinstance(x, Tensor | Mapping | list | tuple) for x in containers[0]):
        return function(batches)
    columns = [_mapped(function, column) for column in zip(*containers, strict=True)]
    return tuple(columns) if isinstance(containers[0], tuple) else columns
