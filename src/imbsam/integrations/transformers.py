"""Hugging Face transformers: a mixin for ``Trainer``."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.integrations.accelerate import AccelerateBackward
from imbsam.integrations.targets import targets_for, targets_of

LossOfOutputs = Callable[..., Tensor]


class _Arguments(Protocol):
    device: torch.device
    label_smoothing_factor: float


class _Outputs(Protocol):
    logits: Tensor
    loss: Tensor | None


class _Trainer(Protocol):
    def train(self, *args: object, **kwargs: object) -> object: ...


class SharpnessAwareMixin:
    """Mixin to put before ``Trainer`` in a class's bases; ``optimizers=`` gives it one of our optimizers.

    The trainer's precision, clipping, schedulers, ``gradient_accumulation_steps``, checkpoints and DDP work as usual.
    The logged loss is the mean loss at the unperturbed weights.

    Args:
        args: Positional arguments of ``Trainer``.
        compute_loss_func: Function ``(outputs, labels, num_items_in_batch)`` like ``Trainer``'s, but it returns the
            loss of each row, shape ``(B,)``. By default the loss of ``outputs.logits`` for the ``problem_type`` of the
            model's ``config``: cross-entropy with the ``label_smoothing_factor``, or, for several labels per row and
            for regression, the mean over a row's logits; without labels the model's own ``loss``, one for each row.
        kwargs: Keyword arguments of ``Trainer``.

    Example:
        >>> class SharpTrainer(SharpnessAwareMixin, Trainer): ...  # doctest: +SKIP
        >>> optimizer = ImbSAM(torch.optim.AdamW(model.parameters()), tail, model=model)  # doctest: +SKIP
        >>> SharpTrainer(model, args, optimizers=(optimizer, None), train_dataset=rows).train()  # doctest: +SKIP
    """

    args: _Arguments
    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    compute_loss: Callable[[nn.Module, dict[str, object]], Tensor]
    _prepare_inputs: Callable[[dict[str, object]], dict[str, object]]

    def __init__(self, *args: object, compute_loss_func: LossOfOutputs | None = None, **kwargs: object) -> None:
        kwargs["compute_loss_func"] = compute_loss_func or self._row_losses
        super().__init__(*args, **kwargs)
        self._backward: AccelerateBackward | None = None

    def _row_losses(self, outputs: _Outputs, labels: Tensor | None, num_items_in_batch: object = None) -> Tensor:
        if labels is None:
            if outputs.loss is not None:
                return outputs.loss
            raise OptionError(
                "a batch without 'labels' and a model whose outputs lack a loss: give a compute_loss_func that gives "
                "the loss of each row."
            )
        logits = outputs.logits
        problem = getattr(getattr(self.model, "config", None), "problem_type", None)
        if problem == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").flatten(1).mean(1)
        if problem == "regression":
            return F.mse_loss(logits, labels.view_as(logits), reduction="none").flatten(1).mean(1)
        if logits.ndim != 2 or (problem is None and labels.is_floating_point()):
            raise OptionError(
                f"labels of shape {tuple(labels.shape)} ({labels.dtype}) with logits of shape {tuple(logits.shape)} do "
                "not say what the loss of a row is: set model.config.problem_type ('regression', "
                "'multi_label_classification', or 'single_label_classification' for shares of classes), or give a "
                "compute_loss_func that returns the loss of each row."
            )
        smoothing = self.args.label_smoothing_factor
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def row_targets(self, inputs: dict[str, object]) -> Tensor:
        """Return the class of each row of a batch; by default its ``"labels"``.

        For a method that does not need classes only their number counts.

        Args:
            inputs: The batch.

        Returns:
            Targets, shape ``(B,)``, or others that the method takes.
        """
        return targets_of(inputs)

    def take_rows(self, inputs: object, rows: Tensor) -> object:
        """Return some rows of a batch; override it for batches other than tensors, lists and constants in containers.

        Args:
            inputs: The batch.
            rows: Indices of the rows, shape ``(R,)``, on the CPU.

        Returns:
            The rows, as the model takes them, or ``NotImplemented`` to cut the batch as usual.
        """
        return NotImplemented

    def train(self, *args: object, **kwargs: object) -> object:
        """Train, as ``Trainer`` does."""
        self._backward = None
        return cast(_Trainer, super()).train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, object], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Keep a batch until the last of its step is there, and then make the passes.

        Returns:
            Mean loss of the step with its last batch, and 0 before: the trainer logs their sum.
        """
        model.train()
        if callable(switch := getattr(self.optimizer, "train", None)):
            switch()
        if self._backward is None:
            self._backward = AccelerateBackward(self.accelerator, model, self.optimizer, take_rows=self.take_rows)
        inputs = self._prepare_inputs(inputs)
        # compute_loss takes the labels out of what it is given.
        loss = self._backward(
            inputs,
            lambda rows: self.compute_loss(model, dict(cast(dict[str, object], rows))),
            targets=targets_for(self._backward.optimizer, inputs, cast(Callable[[object], Tensor], self.row_targets)),
        )
        return torch.zeros((), device=self.args.device) if loss is None else loss.to(self.args.device)
