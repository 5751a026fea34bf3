"""Loss along a line and over a plane through the model's weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError
from imbsam.sharpness.surface import LossSurface

OnPoint = Callable[[int, int], None]


def line(
    surface: LossSurface, direction: Tensor, offsets: Sequence[float], *, on_point: OnPoint | None = None
) -> Tensor:
    """Compute the loss of each class at ``w + a d``; one pass over the rows per offset serves all classes and groups.

    Args:
        surface: Loss surface; ``surface.mean_loss(losses, classes)`` computes the loss of a group from the result.
        direction: d, shape ``(P,)``.
        offsets: Values of a.
        on_point: Function called after each point with the number of points done, and of all points.

    Returns:
        Losses, shape ``(len(offsets), C)``, float64; NaN for a class without rows; infinite where the loss overflows.

    Raises:
        NonFiniteError: If the loss of a class with rows is NaN.
    """
    return plane(surface, (direction, torch.zeros_like(direction)), offsets, [0.0], on_point=on_point)[0]


def plane(
    surface: LossSurface,
    directions: tuple[Tensor, Tensor],
    across: Sequence[float],
    up: Sequence[float],
    *,
    on_point: OnPoint | None = None,
) -> Tensor:
    """Compute the loss of each class at ``w + a d_1 + b d_2``, with one pass over the rows per point.

    Args:
        surface: Loss surface to measure on.
        directions: d_1 and d_2, each of shape ``(P,)``.
        across: Values of a.
        up: Values of b.
        on_point: Function called after each point with the number of points done, and of all points.

    Returns:
        Losses, shape ``(len(up), len(across), C)``, float64; NaN for a class without rows; infinite where the loss
        overflows.

    Raises:
        NonFiniteError: If the loss of a class with rows is NaN.
    """
    present = surface.classes
    losses = torch.zeros(len(up), len(across), surface.rows.num_classes, dtype=torch.float64)
    for row, b in enumerate(up):
        for column, a in enumerate(across):
            found = surface.class_losses(surface.weights + a * directions[0] + b * directions[1])
            if found[present].isnan().any():
                raise NonFiniteError(f"a loss is NaN at the offsets {a:g}, {b:g}. Choose a smaller span.")
            losses[row, column] = found
            if on_point is not None:
                on_point(row * len(across) + column + 1, len(up) * len(across))
    return losses
