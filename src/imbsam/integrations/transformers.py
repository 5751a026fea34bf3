"""Hugging Face transformers: a mixin for ``Trainer``."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.integrations.accelerate import AccelerateBackward
from imbsam.integrations.micro_batches import targets_of

LossOfOutputs = Callable[..., Tensor]


class _Arguments(Protocol):
    device: torch.device
    label_smoothing_factor: float


class _Outputs(Protocol):
    logits: Tensor


class _Trainer(Protocol):
    def train(self, *args: object, **kwargs: object) -> object: ...


class SharpnessAwareMixin:
    """Stands before ``Trainer`` in a class's bases; ``optimizers=`` gives it one of our optimizers.

    The trainer's precision, clipping, schedulers, ``gradient_accumulation_steps``, checkpoints and DDP work as ever.
    The logged loss is the mean loss at the unperturbed weights.

    Args:
        args: Of ``Trainer``.
        compute_loss_func: As ``Trainer``'s, ``(outputs, labels, num_items_in_batch)``, but it gives the loss of each
            row, shape ``(B,)``. By default cross-entropy of ``outputs.logits`` with the ``label_smoothing_factor``.
        kwargs: Of ``Trainer``.

    Example:
        >>> class SharpTrainer(SharpnessAwareMixin, Trainer): ...  # doctest: +SKIP
        >>> optimizer = ImbSAM(torch.optim.AdamW(model.parameters()), tail, model=model)  # doctest: +SKIP
        >>> SharpTrainer(model, args, optimizers=(optimizer, None), train_dataset=rows).train()  # doctest: +SKIP
    """

    args: _Arguments
    accelerator: Accelerator
    optimizer: Optimizer
    compute_loss: Callable[[nn.Module, dict[str, object]], Tensor]
    _prepare_inputs: Callable[[dict[str, object]], dict[str, object]]

    def __init__(self, *args: object, compute_loss_func: LossOfOutputs | None = None, **kwargs: object) -> None:
        kwargs["compute_loss_func"] = compute_loss_func or self._cross_entropy
        super().__init__(*args, **kwargs)
        self._backward: AccelerateBackward | None = None

    def _cross_entropy(self, outputs: _Outputs, labels: Tensor, num_items_in_batch: object = None) -> Tensor:
        smoothing = self.args.label_smoothing_factor
        return F.cross_entropy(outputs.logits, labels, reduction="none", label_smoothing=smoothing)

    def row_targets(self, inputs: dict[str, object]) -> Tensor:
        """The class of each row of a batch; by default its ``"labels"``.

        Args:
            inputs: The batch.

        Returns:
            Shape ``(B,)``.
        """
        return targets_of(inputs)

    def train(self, *args: object, **kwargs: object) -> object:
        """Train, as ``Trainer`` does."""
        self._backward = None
        return cast(_Trainer, super()).train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, object], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Let a batch wait; make the passes once the last batch of a step is there.

        Returns:
            The mean loss of the step with its last batch, 0 before: their sum is what the trainer logs.
        """
        model.train()
        if callable(switch := getattr(self.optimizer, "train", None)):
            switch()
        if self._backward is None:
            self._backward = AccelerateBackward(self.accelerator, model, self.optimizer)
        inputs = self._prepare_inputs(inputs)
        # compute_loss takes the labels out of what it is given.
        loss = self._backward(
            inputs,
            lambda rows: self.compute_loss(model, dict(cast(dict[str, object], rows))),
            targets=self.row_targets(inputs),
        )
        return torch.zeros((), device=self.args.device) if loss is None else loss.to(self.args.device)
