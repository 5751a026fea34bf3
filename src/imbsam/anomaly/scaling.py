"""Scaling of the columns of a table, or the channels of images, fitted on the training rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.anomaly.settings import Scaling
from imbsam.errors import DataError, OptionError


@dataclass(frozen=True)
class ColumnScaling:
    """Scaling of rows, ``(rows - shift) * factor``.

    Args:
        shift: Shift, shape ``(columns,)``, or ``(channels, 1, 1)`` for images, float64.
        factor: Factor, of the same shape; 0 for a column that is constant in training.
    """

    shift: Tensor
    factor: Tensor

    def __call__(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale rows or images; the difference is taken in float64, where large values do not cancel."""
        return ((rows.double() - self.shift) * self.factor).to(dtype)


def fit_scaling(blocks: Callable[[], Iterable[Tensor]], how: Scaling) -> ColumnScaling:
    """Fit the scaling to the training rows, with two passes if a standard deviation is needed.

    Args:
        blocks: Function that yields the rows ``(B, columns)``, or images ``(B, channels, height, width)``, at each
            call.
        how: ``"standard"`` for mean 0 and standard deviation 1, ``"minmax"`` for 0 to 1, or ``"none"``.

    Returns:
        The scaling; a constant column becomes 0, also under ``"none"``.

    Raises:
        OptionError: If ``how`` is not one of these.
        DataError: If a value is NaN or infinite.
    """
    if how not in ("standard", "minmax", "none"):
        raise OptionError(f"scaling must be 'standard', 'minmax' or 'none'; got {how!r}.")
    low, high = _range(blocks())
    infinite = ~(low.isfinite() & high.isfinite()).flatten()
    if infinite.any():
        first = int(infinite.nonzero()[0])
        raise DataError(
            f"column (of images: channel) {first} holds NaN or infinite values: fill them in or leave it out."
        )
    varies = high > low
    shift, spread = low, high - low
    if how == "none":
        shift, spread = torch.zeros_like(low), torch.ones_like(low)
    if how == "standard":
        # Taken from the lowest value, so that a large common offset cannot drown the differences.
        sums = [(_sum(b.double() - low), b.numel() // low.numel()) for b in blocks()]
        number = sum(n for _, n in sums)
        shift = low + torch.stack([s for s, _ in sums]).sum(dim=0) / number
        squares = torch.stack([_sum((b.double() - shift).square()) for b in blocks()]).sum(dim=0)
        spread = (squares / number).sqrt()
    usable = varies & (spread > 0)
    factor = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)
    return ColumnScaling(shift, factor)


def constant_columns(blocks: Iterable[Tensor]) -> list[int]:
    """Return the columns, or channels of images, that have one value throughout."""
    low, high = _range(blocks)
    return (low == high).flatten().nonzero().squeeze(1).tolist()


def _range(blocks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value of each column, or of each channel, float64."""
    ends = [
        (block.amin(dim=_within(block), keepdim=True), block.amax(dim=_within(block), keepdim=True)) for block in blocks
    ]
    low, high = (torch.cat(side).double() for side in zip(*ends, strict=True))
    return low.amin(dim=0), high.amax(dim=0)


def _sum(block: Tensor) -> Tensor:
    return block.sum(dim=_within(block), keepdim=True)[0]


def _within(block: Tensor) -> tuple[int, ...]:
    """Return the dimensions that a column, or a channel, spans."""
    return (0, *range(2, block.ndim))
