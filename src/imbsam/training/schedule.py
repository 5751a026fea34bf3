"""The learning rate over a run."""

import math
from collections.abc import Callable
from typing import Literal


def usual_warmup(epochs: int) -> float:
    """Return the default number of warm-up epochs: 5 % of the run, at most 5."""
    return float(min(5, round(0.05 * epochs)))


def factor(
    schedule: Literal["cosine", "step", "constant"], *, epochs: int, warmup: float, steps_per_epoch: int
) -> Callable[[int], float]:
    """Return the factor on the learning rate for each optimizer step.

    Args:
        schedule: Schedule after the warm-up: a half cosine to 0; a tenth after 80 % of the epochs and again after 90 %
            (Cao et al. 2019: 160 and 180 of 200); or constant.
        epochs: Number of epochs of the whole run.
        warmup: Number of epochs of linear rise, part of ``epochs``.
        steps_per_epoch: Optimizer steps in an epoch.

    Returns:
        A function of the step's number from 0, for ``LambdaLR``; it never reaches 0 while steps remain.
    """
    total, rising = epochs * steps_per_epoch, warmup * steps_per_epoch

    def at(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        if schedule == "constant":
            return 1.0
        if schedule == "step":
            return 0.1 ** ((step >= 0.8 * total) + (step >= 0.9 * total))
        done = (step - rising) / max(1.0, total - rising)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return at
