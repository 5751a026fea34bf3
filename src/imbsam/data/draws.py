"""Draws for the rows of a batch, which may be some of the rows of a larger one."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowDraws:
    """A source of draws for some rows of a batch: each gets those it would get among all of them.

    Args:
        generator: Source of the random draws of the whole batch.
        rows: Places of these rows in it, shape ``(r,)``.
        of: How many rows it has.
    """

    generator: torch.Generator
    rows: Tensor
    of: int


Draws = torch.Generator | RowDraws | None


def uniform(shape: tuple[int, ...], rows: int, generator: Draws, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draws in 0..1 of a shape whose dimension ``rows`` is the batch.

    Args:
        shape: Shape of the result.
        rows: Which of its dimensions is the batch.
        generator: Source of the random draws.
        dtype: Dtype of the result.
    """
    if not isinstance(generator, RowDraws):
        return torch.rand(shape, generator=generator, dtype=dtype)
    whole = (*shape[:rows], generator.of, *shape[rows + 1 :])
    return torch.rand(whole, generator=generator.generator, dtype=dtype).index_select(rows, generator.rows)


def whole_numbers(below: int, count: int, generator: Draws) -> Tensor:
    """A draw in ``0 .. below - 1`` for each image.

    Args:
        below: One more than the largest.
        count: How many images there are.
        generator: Source of the random draws.
    """
    if not isinstance(generator, RowDraws):
        return torch.randint(below, (count,), generator=generator)
    return torch.randint(below, (generator.of,), generator=generator.generator)[generator.rows]
