"""The average of a model's weights over training."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from imbsam.config import TrainingOptions
from imbsam.errors import OptionError

MODULE = "module."
"""Prefix of the model's names in the state of its average."""


def check_average(training: TrainingOptions) -> None:
    """Refuse a decay without an average.

    Raises:
        OptionError: If a decay is given without an average.
    """
    if training.average != "ema" and training.average_decay != TrainingOptions().average_decay:
        raise OptionError(f"--average-decay {training.average_decay} needs an average: add --average ema.")


def average_of(model: nn.Module, training: TrainingOptions) -> AveragedModel | None:
    """Start the average of the weights that the options choose; it includes BatchNorm's running statistics.

    Args:
        model: Model with its initial weights, which are copied.
        training: Options that choose the average.

    Returns:
        The average, to be updated after each step; None without an average.

    Raises:
        OptionError: If the model has a buffer that has no average.
    """
    if training.average != "ema":
        return None
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and not bool(buffer.isfinite().all()):
            raise OptionError(f"--average ema: the model's buffer {name} holds values that are not finite.")
    decay = training.average_decay

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        if averaged[0].is_floating_point() or averaged[0].is_complex():
            mean = get_ema_multi_avg_fn(warm_decay(decay, int(steps)))  # type: ignore[no-untyped-call]
            mean(list(averaged), list(current), steps)
        else:
            # Counts and indices have no mean.
            torch._foreach_copy_(list(averaged), list(current))

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def warm_decay(decay: float, steps: int) -> float:
    """Return the decay after some steps: small at first, so that a short run does not keep the initial weights.

    Args:
        decay: Decay of a long run.
        steps: Number of steps averaged before; the first step's weights are copied.
    """
    return min(decay, (1 + steps) / (10 + steps))


def averaged_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extract the state of the model itself from the state of its average.

    Args:
        state: State of :func:`average_of`'s.
    """
    return {name.removeprefix(MODULE): tensor for name, tensor in state.items() if name.startswith(MODULE)}
