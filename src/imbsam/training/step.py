"""One training step of our own loop: forward and backward of every pass of a method."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from imbsam.optim import SharpnessAware


def train_step(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: SharpnessAware,
    inputs: Tensor,
    targets: Tensor,
    *,
    precision: AbstractContextManager[object] | None = None,
    clip_norm: float | None = None,
) -> tuple[Tensor, int]:
    """Make one step on a batch.

    Args:
        model: Model in training mode.
        criterion: Function of logits and targets that returns the loss of each row.
        optimizer: The method.
        inputs: Inputs, shape ``(B, ...)``, on the model's device.
        targets: Class of each sample, shape ``(B,)``, on the CPU or the model's device.
        precision: Function that makes the context of each forward, such as ``torch.autocast``.
        clip_norm: Largest norm of the combined gradient.

    Returns:
        Mean loss of the batch at the unperturbed weights, and the number of rows forwarded in all passes together.

    Raises:
        NonFiniteError: If a loss or gradient is NaN or infinite; the weights are unchanged.
    """
    labels = targets.to(inputs.device, non_blocking=True)
    forwarded = 0
    with optimizer.passes(targets) as passes:
        for each in passes:
            x, y = each.select(inputs, labels)
            with precision or nullcontext(), torch.set_grad_enabled(each.needs_gradient):
                losses = criterion(model(x), y)
            each.backward(losses)
            forwarded += len(y)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return passes.loss, forwarded
