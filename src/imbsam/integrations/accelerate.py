"""Accelerate: the backward of a step, in the place of ``accelerator.backward``."""

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.integrations.micro_batches import MicroBatches, RowLosses, make_passes, targets_of, use_model
from imbsam.optim import Pass, SharpnessAware

SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "TP", "XLA")


class AccelerateBackward:
    """Makes the passes of each step; everything else of an Accelerate loop stays.

    Inside ``accelerator.accumulate`` a batch waits until gradients are synchronised, and the step is that over one
    batch of all rows that wait.

    Args:
        accelerator: Any precision; one process or DDP.
        model: As ``accelerator.prepare`` gave it.
        optimizer: Likewise.

    Raises:
        OptionError: If the optimizer is none of ours, or was not prepared, or the model's weights are sharded.

    Example:
        >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)  # doctest: +SKIP
        >>> backward = AccelerateBackward(accelerator, model, optimizer)  # doctest: +SKIP
        >>> for batch in loader:  # doctest: +SKIP
        ...     with accelerator.accumulate(model):
        ...         backward(batch, row_losses)
        ...         optimizer.step()
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, AcceleratedOptimizer):
            raise OptionError(
                f"{type(optimizer).__name__} was not prepared: "
                "model, optimizer = accelerator.prepare(model, optimizer) comes first."
            )
        if not isinstance(optimizer.optimizer, SharpnessAware):
            raise OptionError(
                f"the prepared optimizer is {type(optimizer.optimizer).__name__}: prepare one of imbsam's around it, "
                "as ImbSAM(SGD(...), tail, model=model); imbsam.Plain(SGD(...)) is SGD itself."
            )
        if accelerator.distributed_type.name in SHARDED:
            raise OptionError(
                f"{accelerator.distributed_type.name} spreads the weights over the processes, and a perturbation needs "
                "them whole: use one process or DDP."
            )
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer.optimizer
        self._waiting = MicroBatches()
        use_model(self.optimizer, model)

    def __call__(self, batch: object, row_losses: RowLosses, *, targets: Tensor | None = None) -> Tensor | None:
        """Make the passes over all batches of a step once its last is there.

        Args:
            batch: Tensors whose first dimension is the batch, alone or in mappings and sequences.
            row_losses: Called with the batch, or some of its rows; gives the loss of each, shape ``(R,)``.
            targets: Class of each row; by default the batch's labels, or the last element of a pair.

        Returns:
            Mean loss at the unperturbed weights of all rows of the step; ``None`` where the batch waits.
        """
        self._waiting.add(batch, targets_of(batch) if targets is None else targets)
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
