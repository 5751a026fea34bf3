"""What the outputs of a network mean under the loss that it was trained with."""

from typing import cast

from torch import Tensor, nn


def training_shift(criterion: nn.Module) -> Tensor | None:
    """What is added to logits so that their softmax estimates the posterior under the priors of the training rows.

    ``tau * log pi`` for logit adjustment and VS, ``log n`` for balanced softmax, minus the logarithm of the weights
    where classes are weighted, nothing for cross-entropy. Of the focal loss and LDAM, which are no proper scoring
    rules, nothing is known in closed form, and nothing is added.

    Args:
        criterion: A loss of the library, deferred or not.

    Returns:
        Shape ``(C,)``; None for nothing.
    """
    return cast(Tensor | None, getattr(criterion, "training_shift", None))
