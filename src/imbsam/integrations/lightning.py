"""Lightning: a mixin that makes the passes inside automatic optimization.

It needs no import of Lightning, so it serves ``lightning.pytorch`` and ``pytorch_lightning`` alike.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import default_collate

from imbsam.errors import OptionError
from imbsam.integrations.micro_batches import MicroBatches, make_passes, use_model
from imbsam.integrations.targets import targets_for, targets_of
from imbsam.optim import Pass, SharpnessAware


class _Strategy(Protocol):
    model: nn.Module
    precision_plugin: object

    def training_step(self, batch: object, batch_idx: int) -> Tensor: ...
    def backward(self, losses: Tensor, optimizer: Optimizer) -> Tensor: ...
    def optimizer_step(self, optimizer: object, closure: Callable[[], object], model: object) -> object: ...


class _Trainer(Protocol):
    strategy: _Strategy
    accumulate_grad_batches: int
    optimizers: list[Optimizer]
    train_dataloader: object


class _Module(Protocol):
    def on_fit_start(self) -> None: ...
    def on_train_batch_start(self, batch: object, batch_idx: int) -> int | None: ...


class SharpnessAwareMixin:
    """Mixin to put before ``LightningModule`` in a class's bases; ``configure_optimizers`` returns our optimizer.

    The class defines :meth:`row_losses` instead of ``training_step``. The trainer's precision (including 16-mixed),
    gradient clipping, schedulers, checkpoints, ``accumulate_grad_batches`` and DDP work as usual. ``outputs["loss"]``
    of ``on_train_batch_end`` is the mean loss at the unperturbed weights over all batches of the step, and NaN for a
    batch that waits for the others of its step.

    Example:
        >>> class Classifier(SharpnessAwareMixin, LightningModule):  # doctest: +SKIP
        ...     def row_losses(self, batch):
        ...         x, y = batch
        ...         return torch.nn.functional.cross_entropy(self.net(x), y, reduction="none")
        ...
        ...     def configure_optimizers(self):
        ...         return ImbSAM(torch.optim.SGD(self.parameters(), lr=0.1), self.tail, model=self)
    """

    trainer: _Trainer
    automatic_optimization: bool

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = MicroBatches(self.take_rows)
        self._in_passes = False
        self._piece: Pass | None = None
        self._mean_loss = torch.tensor(torch.nan)

    def row_losses(self, batch: object) -> Tensor:
        """Forward a batch, or some of its rows.

        Args:
            batch: Batch from the data loader, cut to some of its rows.

        Returns:
            Loss of each row, shape ``(R,)``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define row_losses(batch): the loss of each row.")

    def row_targets(self, batch: object) -> Tensor:
        """Return the class of each row of a batch; by default the targets named in it, or the second of a pair.

        For a method that does not need classes only their number counts.

        Args:
            batch: The batch.

        Returns:
            Targets, shape ``(B,)``, or others that the method takes.
        """
        return targets_of(batch)

    def take_rows(self, batch: object, rows: Tensor) -> object:
        """Return some rows of a batch; override it for batches other than tensors, lists and constants in containers.

        Args:
            batch: The batch.
            rows: Indices of the rows, shape ``(R,)``, on the CPU.

        Returns:
            The rows, as for :meth:`row_losses`, or ``NotImplemented`` to cut the batch as usual.
        """
        return NotImplemented

    def on_fit_start(self) -> None:
        """Refuse settings that cannot work."""
        cast(_Module, super()).on_fit_start()
        if not self.automatic_optimization:
            raise OptionError(
                f"{type(self).__name__} sets automatic_optimization = False, and SharpnessAwareMixin works inside "
                "automatic optimization: leave it on, or write the passes into training_step without the mixin."
            )

    def on_train_batch_start(self, batch: object, batch_idx: int) -> int | None:
        """Let a batch wait for its step."""
        if batch_idx == 0:
            self._waiting.clear()
            self._waiting.reader.collated = (
                getattr(self.trainer.train_dataloader, "collate_fn", None) is default_collate
            )
        ours = self._checked(self.trainer.optimizers[0])
        self._waiting.add(batch, targets_for(ours, batch, self.row_targets))
        return cast(_Module, super()).on_train_batch_start(batch, batch_idx)

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        """Return the losses of the rows inside a pass; outside, where Lightning needs a result, the mean loss."""
        return self.row_losses(batch) if self._in_passes else self._mean_loss

    def backward(self, loss: Tensor, *args: object, **kwargs: object) -> None:
        """Backpropagate the losses of a pass; outside a pass do nothing."""
        if self._piece is not None:
            self._piece.backward(loss)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: object) -> None:
        """Keep the gradients: opening the passes drops those of the step before."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: object, optimizer_closure: Callable[[], object] | None = None
    ) -> None:
        """Make the passes where Lightning would run its closure, then unscale, clip and step as it does."""
        ours = self._checked(getattr(optimizer, "optimizer", optimizer))
        strategy = self.trainer.strategy
        use_model(ours, strategy.model)
        strategy.optimizer_step(
            _AfterPasses(ours), partial(self._make_passes, ours, batch_idx, optimizer_closure), self
        )

    def _checked(self, optimizer: object) -> SharpnessAware:
        if isinstance(optimizer, SharpnessAware):
            return optimizer
        raise OptionError(
            f"configure_optimizers of {type(self).__name__} returned {type(optimizer).__name__}: return it inside one "
            "of imbsam's optimizers, for example ImbSAM(SGD(...), tail, model=self); imbsam.Plain(SGD(...)) is SGD "
            "itself."
        )

    def _make_passes(self, optimizer: SharpnessAware, batch_idx: int, closure: Callable[[], object] | None) -> object:
        strategy = self.trainer.strategy
        scaler: torch.amp.GradScaler | None = getattr(strategy.precision_plugin, "scaler", None)
        no_sync: Callable[[], AbstractContextManager[object]] = getattr(strategy, "block_backward_sync", nullcontext)

        def backward(piece: Pass, losses: Tensor) -> None:
            self._piece = piece
            strategy.backward(losses, optimizer)

        self._in_passes = True
        try:
            loss = make_passes(
                optimizer,
                self._waiting,
                lambda batch: strategy.training_step(batch, batch_idx),
                backward=backward,
                loss_scale=scaler.get_scale() if scaler is not None else 1.0,
                no_sync=no_sync,
            )
        finally:
            self._in_passes, self._piece = False, None
        # Lightning wants its closure called: that runs training_step once more, which now gives the outcome.
        # It divides by the batches of the step, as it does with their losses.
        unknown, self._mean_loss = self._mean_loss, loss * self.trainer.accumulate_grad_batches
        with no_sync():
            outcome = closure() if closure is not None else loss
        self._mean_loss = unknown
        return outcome


class _AfterPasses:
    """Optimizer as Lightning's precision plugins call it: the closure makes the passes, the step applies them."""

    def __init__(self, optimizer: SharpnessAware) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure: Callable[[], object] | None = None) -> object:
        outcome = closure() if closure is not None else None
        self.optimizer.step()
        return outcome

    def __getattr__(self, name: str) -> object:
        return getattr(self.optimizer, name)
