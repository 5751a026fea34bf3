"""Labels of training rows: 1 for a known anomaly, 0 for unlabelled, -1 for known to be normal."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from imbsam.errors import DataError

UNLABELLED, ANOMALY, NORMAL = range(3)
"""Kinds of rows, the classes that optimizers see."""

OtherLabels = Literal["error", "unlabelled"]

ENCODING = "Labels are 1 for a known anomaly, 0 for an unlabelled row, -1 for a row known to be normal"


def kinds_of(y: ArrayLike | None, rows: int, *, others: OtherLabels = "error") -> Tensor:
    """Convert labels to kinds.

    Args:
        y: Labels, shape ``(rows,)``, of 1, 0 and -1, as numbers or booleans; ``None`` leaves every row unlabelled.
        rows: Number of rows of the table.
        others: Treatment of other numbers, including NaN: refuse them, or take their rows for unlabelled.

    Returns:
        Kind of each row, shape ``(rows,)``, int64.

    Raises:
        DataError: If there is any other label, a label that is not a number, or not one label for each row.
    """
    if y is None:
        return torch.zeros(rows, dtype=torch.long)
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != rows:
        raise DataError(f"y must hold a label for each of the {rows} rows; got shape {values.shape}. {ENCODING}.")
    if values.dtype == object:
        values = _numbers(values)
    if values.dtype.kind not in "iufb":
        raise DataError(f"Unknown label type: y holds {_listed(np.unique(values.astype(str)).tolist())}. {ENCODING}.")
    known = np.isin(values, np.array([-1, 0, 1]))
    if others == "error" and not known.all():
        listed = _listed(np.unique(values[~known]).astype(str).tolist())
        raise DataError(
            f"Unknown labels: y holds {listed}, first in row {int(known.argmin())}. {ENCODING}. "
            "other_labels='unlabelled' takes such rows for unlabelled."
        )
    kinds = np.where(known, values, UNLABELLED)
    return torch.from_numpy(np.where(kinds < 0, NORMAL, kinds).astype(np.int64))


def _numbers(values: NDArray[np.object_]) -> NDArray[np.float64] | NDArray[np.object_]:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return values


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
