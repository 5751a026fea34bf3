"""One pass of a step, as the caller's training loop sees it."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imbsam.errors import PassError
from imbsam.optim._numbers import check_number
from imbsam.optim._plan import PlannedPass
from imbsam.optim._tensors import outside_graphs

if TYPE_CHECKING:
    from imbsam.optim._step import Step

Backward = Callable[..., object]
"""Called with the weighted sum of the losses, shape ``()``, and ``retain_graph``."""


class Pass:
    """One forward and backward of a step, over some rows of the batch."""

    def __init__(self, step: "Step", planned: PlannedPass, span: slice, *, counts: bool = True) -> None:
        self._step = step
        self._planned = planned
        self._span = span
        self._counts = counts
        self._size = span.stop - span.start

    @cached_property
    def rows(self) -> Tensor:
        """Indices of the rows to forward, shape ``(R,)``, int64, on the targets' device."""
        planned, span = self._planned, self._span
        if planned.rows is None:
            rows = torch.arange(span.start, span.stop)
        else:
            rows = planned.rows if self._size == planned.rows.numel() else planned.rows[span]
            rows = rows if self._step.order is None else self._step.order.index_select(0, rows)
        return rows.to(self._step.device, non_blocking=True)

    def select(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Select the pass's rows of tensors whose first dimension is the batch, without a copy where they are all rows.

        Args:
            batch: Tensors of shape ``(B, ...)``, on any device.

        Returns:
            Tensors of shape ``(R, ...)``.
        """
        whole = self._planned.rows is None and self._size == self._step.batch_size
        return batch if whole else tuple([_rows_of(x, self.rows) for x in batch])

    def split(self, size: int) -> Iterator["Pass"]:
        """Cut the pass into micro-batches; their gradients add up to the pass's.

        Make forward and backward of each as it is yielded: BatchNorm is told of each in turn. Ranks that share sharded
        weights gather them together, so a rank with fewer rows forwards its first rows again, with weight 0.

        Args:
            size: Rows in each micro-batch; the last may have fewer.

        Yields:
            Passes over consecutive rows of this one.

        Raises:
            OptionError: If ``size`` is not a whole number of at least 1.
        """
        check_number("size", size, least=1, whole=True)
        starts = range(self._span.start, self._span.stop, size)
        idle = self._step.most_on_any_rank(len(starts)) - len(starts)
        for number, start in enumerate([starts[0]] * idle + list(starts)):
            span = slice(start, min(start + size, self._span.stop))
            yield self._step._forwarded(self._planned, span, counts=number >= idle)

    @property
    def backwards(self) -> int:
        """Number of backwards that share the pass's forward."""
        return len(self._planned.uses)

    @property
    def needs_gradient(self) -> bool:
        """Return whether the pass has a backward; if not, its forward may run under ``torch.no_grad()``.

        In a pass that only moves running statistics, parameters of other optimizers get the gradient of the mean loss.
        """
        return bool(self._planned.uses) or (self._planned.counted is not None and self._step.serves_others)

    @outside_graphs
    def backward(self, losses: Tensor, *, by: Backward | None = None) -> None:
        """Backpropagate the losses with the weights the method gives these rows.

        Args:
            losses: Loss of each row of the pass, in order, shape ``(R,)``; multiplied by the ``loss_scale`` that
                ``passes`` was given, if any.
            by: Backward function of a framework, for example Fabric's, called instead of ``Tensor.backward`` with the
                weighted sum of the losses, shape ``()``, and ``retain_graph``. It multiplies by ``loss_scale`` itself,
                so give the losses unscaled.

        Raises:
            PassError: If there is not one loss per row, or this is not the pass in progress.
        """
        if losses.shape != (self._size,):
            raise PassError(
                f"backward() needs the loss of each of the {self._size} rows, shape ({self._size},); "
                f"got shape {tuple(losses.shape)}. Use a criterion with reduction='none', and the mean over what a row "
                "has besides, for example losses.flatten(1).mean(1)."
            )
        self._step._backward(self._planned, self._span if self._counts else None, losses, by)


def _rows_of(x: Tensor, rows: Tensor) -> Tensor:
    there = rows if rows.device == x.device else rows.to(x.device, non_blocking=True)
    # Indexing keeps the memory format of images, and takes longer.
    return x[there] if x.ndim > 3 else x.index_select(0, there)
