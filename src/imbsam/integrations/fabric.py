"""Lightning Fabric: the backward of a step, used instead of ``fabric.backward``."""

from contextlib import nullcontext

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.integrations.micro_batches import MicroBatches, RowLosses, TakeRows, make_passes, use_model
from imbsam.integrations.targets import targets_for, targets_of
from imbsam.optim import Pass, SharpnessAware


class FabricBackward:
    """Callable that makes the passes of each step by ``fabric.backward``; the Fabric loop otherwise stays unchanged.

    A batch waits if the caller says that more follow, and the step is the same as on one batch with all waiting rows.

    Args:
        fabric: Fabric of any precision, with one process, DDP, or ``ModelParallelStrategy`` with ``fully_shard`` in its
            function.
        model: Model from ``fabric.setup``. With sharded weights, from ``fabric.setup_module``, and the optimizer is
            made from its parameters afterwards.
        optimizer: Optimizer from ``fabric.setup`` or ``fabric.setup_optimizers``.
        take_rows: Function ``take_rows(batch, rows)`` that returns some rows of a batch, indices of shape ``(R,)`` on
            the CPU. Needed for batches other than tensors, lists and constants in containers; if it returns
            ``NotImplemented``, the batch is cut as usual.

    Raises:
        OptionError: If the optimizer is not one of this library or was not set up, or the strategy is another.

    Example:
        >>> model, optimizer = fabric.setup(model, optimizer)  # doctest: +SKIP
        >>> backward = FabricBackward(fabric, model, optimizer)  # doctest: +SKIP
        >>> for batch in loader:  # doctest: +SKIP
        ...     loss = backward(batch, row_losses)
        ...     optimizer.step()
    """

    def __init__(
        self, fabric: Fabric, model: _FabricModule, optimizer: Optimizer, *, take_rows: TakeRows | None = None
    ) -> None:
        if not isinstance(optimizer, _FabricOptimizer):
            raise OptionError(
                f"{type(optimizer).__name__} was not set up: model, optimizer = fabric.setup(model, optimizer) comes "
                "first."
            )
        ours = optimizer.optimizer
        if not isinstance(ours, SharpnessAware):
            raise OptionError(
                f"the optimizer that was set up is {type(ours).__name__}: set up one of imbsam's around it, "
                "for example ImbSAM(SGD(...), tail, model=model); imbsam.Plain(SGD(...)) is SGD itself."
            )
        # Not isinstance: DeepSpeed's is a kind of DDPStrategy.
        if type(fabric.strategy) not in (SingleDeviceStrategy, DDPStrategy, ModelParallelStrategy):
            raise OptionError(
                f"{type(fabric.strategy).__name__} may spread the weights over the processes in its own way: use "
                "one process, strategy='ddp', or ModelParallelStrategy with torch's fully_shard."
            )
        self.fabric = fabric
        self.model = model
        self.optimizer = ours
        self._waiting = MicroBatches(take_rows)
        self._sharded = isinstance(fabric.strategy, ModelParallelStrategy)
        # Not Fabric's own wrapper: its state_dict goes around the hooks that refuse perturbed weights.
        distributed = (m for m in model.modules() if isinstance(m, DistributedDataParallel))
        use_model(ours, next(distributed, model.module))

    def __call__(
        self, batch: object, row_losses: RowLosses, *, targets: Tensor | None = None, more: bool = False
    ) -> Tensor | None:
        """Make the passes over all batches of a step, once its last batch is there.

        Args:
            batch: Batch, as for :func:`~imbsam.integrations.batches.take_rows` or the ``take_rows`` given before.
            row_losses: Function of the batch, or of some of its rows, that returns their losses, shape ``(R,)``.
            targets: Class of each row, shape ``(B,)``, or other targets that the method takes; by default those named
                so in the batch, or the second of a pair. A method that does not need classes only counts the rows.
            more: Whether further batches belong to this step; this one waits for them.

        Returns:
            Mean loss at the unperturbed weights of all rows of the step; ``None`` if the batch waits.
        """
        find = targets_of if targets is None else lambda batch: targets
        self._waiting.add(batch, targets_for(self.optimizer, batch, find))
        if more:
            return None
        scaler: torch.amp.GradScaler | None = getattr(self.fabric.strategy.precision, "scaler", None)

        def backward(piece: Pass, losses: Tensor) -> None:
            piece.backward(losses, by=self.fabric.backward)

        return make_passes(
            self.optimizer,
            self._waiting,
            row_losses,
            backward=backward,
            loss_scale=1.0 if scaler is None else scaler.get_scale(),
            # Gradients of sharded weights are kept a part on each rank, so that there is nothing to put off.
            no_sync=nullcontext if self._sharded else lambda: self.fabric.no_backward_sync(self.model),
        )
