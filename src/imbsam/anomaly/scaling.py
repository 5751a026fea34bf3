"""Bringing columns to one scale, as fitted on the training rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.anomaly.objective import Scaling
from imbsam.errors import OptionError


@dataclass(frozen=True)
class ColumnScaling:
    """``(rows - shift) * factor``.

    Args:
        shift: Shape ``(columns,)``, float64.
        factor: Shape ``(columns,)``, float64; 0 for a constant column, whatever it holds later.
    """

    shift: Tensor
    factor: Tensor

    def __call__(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale rows ``(..., columns)``; the difference is taken in float64, where large values do not cancel."""
        return ((rows.double() - self.shift) * self.factor).to(dtype)


def fit_scaling(blocks: Callable[[], Iterable[Tensor]], how: Scaling) -> ColumnScaling:
    """Look at the training rows, twice where a standard deviation is needed.

    Args:
        blocks: Gives the rows, shape ``(B, columns)`` each, anew at each call.
        how: ``"standard"``: mean 0 and standard deviation 1; ``"minmax"``: from 0 to 1; ``"none"``: as they are.

    Returns:
        The scaling; a constant column becomes 0, under ``"none"`` too.

    Raises:
        OptionError: If ``how`` is none of these.
    """
    if how not in ("standard", "minmax", "none"):
        raise OptionError(f"scaling must be 'standard', 'minmax' or 'none'; got {how!r}.")
    low = torch.stack([block.amin(dim=0) for block in blocks()]).amin(dim=0).double()
    high = torch.stack([block.amax(dim=0) for block in blocks()]).amax(dim=0).double()
    varies = high > low
    shift, spread = low, high - low
    if how == "none":
        shift, spread = torch.zeros_like(low), torch.ones_like(low)
    if how == "standard":
        # Taken from the lowest value, so that a large common offset cannot drown the differences.
        sums = [((b.double() - low).sum(dim=0), len(b)) for b in blocks()]
        number = sum(n for _, n in sums)
        shift = low + torch.stack([s for s, _ in sums]).sum(dim=0) / number
        squares = torch.stack([(b.double() - shift).square().sum(dim=0) for b in blocks()]).sum(dim=0)
        spread = (squares / number).sqrt()
    usable = varies & (spread > 0)
    factor = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)
    return ColumnScaling(shift, factor)


def constant_columns(blocks: Iterable[Tensor]) -> list[int]:
    """Columns in which every row holds the same value."""
    ends = [torch.aminmax(block, dim=0) for block in blocks]
    low = torch.stack([end.min for end in ends]).amin(dim=0)
    high = torch.stack([end.max for end in ends]).amax(dim=0)
    return (low == high).nonzero().squeeze(1).tolist()
