"""Relation between the outputs of a network and class probabilities, for the loss that it was trained with."""

from typing import cast

from torch import Tensor, nn


def training_shift(criterion: nn.Module) -> Tensor | None:
    """Return what to add to logits so that their softmax estimates the posterior under the training priors.

    The shift is ``tau * log pi`` for logit adjustment and VS, ``log n`` for balanced softmax, minus the logarithm of
    the weights where classes are weighted, and nothing for cross-entropy. The focal loss and LDAM are not proper
    scoring rules; no closed form is known for them, and nothing is added.

    Args:
        criterion: A loss of the library, deferred or not.

    Returns:
        The shift, shape ``(C,)``; None if nothing is to be added.
    """
    return cast(Tensor | None, getattr(criterion, "training_shift", None))
