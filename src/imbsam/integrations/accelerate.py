"""Accelerate: the backward of a step, used instead of ``accelerator.backward``."""

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.integrations.micro_batches import MicroBatches, RowLosses, TakeRows, make_passes, use_model
from imbsam.integrations.targets import targets_for, targets_of
from imbsam.optim import Pass, SharpnessAware

SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "TP", "XLA")


class AccelerateBackward:
    """Callable that makes the passes of each step in an Accelerate loop, which otherwise stays unchanged.

    Inside ``accelerator.accumulate`` a batch waits until gradients are synchronised, and the step is the same as on one
    batch with all waiting rows.

    Args:
        accelerator: Accelerator of any precision, with one process or DDP.
        model: Model from ``accelerator.prepare``.
        optimizer: Optimizer from ``accelerator.prepare``.
        take_rows: Function ``take_rows(batch, rows)`` that returns some rows of a batch, indices of shape ``(R,)`` on
            the CPU. Needed for batches other than tensors, lists and constants in containers; if it returns
            ``NotImplemented``, the batch is cut as usual.

    Raises:
        OptionError: If the optimizer is not one of this library or was not prepared, or the model's weights are
            sharded.

    Example:
        >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)  # doctest: +SKIP
        >>> backward = AccelerateBackward(accelerator, model, optimizer)  # doctest: +SKIP
        >>> for batch in loader:  # doctest: +SKIP
        ...     with accelerator.accumulate(model):
        ...         backward(batch, row_losses)
        ...         optimizer.step()
    """

    def __init__(
        self, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, *, take_rows: TakeRows | None = None
    ) -> None:
        if not isinstance(optimizer, AcceleratedOptimizer):
            raise OptionError(
                f"{type(optimizer).__name__} was not prepared: "
                "model, optimizer = accelerator.prepare(model, optimizer) comes first."
            )
        if not isinstance(optimizer.optimizer, SharpnessAware):
            raise OptionError(
                f"the prepared optimizer is {type(optimizer.optimizer).__name__}: prepare one of imbsam's around it, "
                "for example ImbSAM(SGD(...), tail, model=model); imbsam.Plain(SGD(...)) is SGD itself."
            )
        if accelerator.distributed_type.name in SHARDED:
            raise OptionError(
                f"{accelerator.distributed_type.name} spreads the weights over the processes, but a perturbation needs "
                "all of them: use one process or DDP."
            )
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer.optimizer
        self._waiting = MicroBatches(take_rows)
        use_model(self.optimizer, model)

    def __call__(self, batch: object, row_losses: RowLosses, *, targets: Tensor | None = None) -> Tensor | None:
        """Make the passes over all batches of a step, once its last batch is there.

        Args:
            batch: Batch, as for :func:`~imbsam.integrations.batches.take_rows` or the ``take_rows`` given before.
            row_losses: Function of the batch, or of some of its rows, that returns their losses, shape ``(R,)``.
            targets: Class of each row, shape ``(B,)``, or other targets that the method takes; by default those named
                so in the batch, or the second of a pair. A method that does not need classes only counts the rows.

        Returns:
            Mean loss at the unperturbed weights of all rows of the step; ``None`` if the batch waits.
        """
        find = targets_of if targets is None else lambda batch: targets
        self._waiting.add(batch, targets_for(self.optimizer, batch, find))
        if not self.accelerator.sync_gradients:
            return None
        scaler: torch.amp.GradScaler | None = self.accelerator.scaler

        def backward(piece: Pass, losses: Tensor) -> None:
            piece.backward(losses if scaler is None else scaler.scale(losses))

        return make_passes(
            self.optimizer,
            self._waiting,
            row_losses,
            backward=backward,
            loss_scale=1.0 if scaler is None else scaler.get_scale(),
            no_sync=lambda: self.accelerator.no_sync(self.model),
        )
