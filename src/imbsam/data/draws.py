"""Random draws for the rows of a batch, which may be a part of a larger batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowDraws:
    """Source of random draws for some rows of a batch: each row gets the draws that it has in the whole batch.

    Args:
        generator: Source of the random draws of the whole batch.
        rows: Indices of these rows in the whole batch, shape ``(r,)``.
        of: Number of rows of the whole batch.
    """

    generator: torch.Generator
    rows: Tensor
    of: int


Draws = torch.Generator | RowDraws | None


def uniform(shape: tuple[int, ...], rows: int, generator: Draws, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw numbers in 0..1 of a shape whose dimension ``rows`` is the batch.

    Args:
        shape: Shape of the result.
        rows: Number of the dimension that is the batch.
        generator: Source of the random draws.
        dtype: Dtype of the result.
    """
    if not isinstance(generator, RowDraws):
        return torch.rand(shape, generator=generator, dtype=dtype)
    whole = (*shape[:rows], generator.of, *shape[rows + 1 :])
    return torch.rand(whole, generator=generator.generator, dtype=dtype).index_select(rows, generator.rows)


def whole_numbers(below: int, count: int, generator: Draws) -> Tensor:
    """Draw a number in ``0 .. below - 1`` for each image.

    Args:
        below: One more than the largest number.
        count: Number of images.
        generator: Source of the random draws.
    """
    if not isinstance(generator, RowDraws):
        return torch.randint(below, (count,), generator=generator)
    return torch.randint(below, (generator.of,), generator=generator.generator)[generator.rows]
