"""Targets of a batch: its classes if a method needs them, else one entry per row."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from imbsam.errors import DataError
from imbsam.integrations.batches import count_rows
from imbsam.integrations.containers import is_list
from imbsam.optim import SharpnessAware

NAMES = ("labels", "label", "targets", "target", "y")
WAY_OUT = "Override row_targets, or give targets=, with the tensor that has them."


def targets_of(batch: object) -> Tensor:
    """Find the classes in a batch, by a name or as the second of a pair.

    The names are ``labels``, ``label``, ``targets``, ``target`` and ``y``: keys of a mapping, fields of a NamedTuple or
    a dataclass, attributes of another object. The second of a pair may be a mapping with such a name.

    Args:
        batch: The batch.

    Returns:
        The targets, of shape ``(B,)`` in a batch of B rows.

    Raises:
        DataError: If there are none, or several candidates.
    """
    found = _named(batch)
    if not found and is_list(batch) | isinstance(batch, tuple):
        parts = cast(Sequence[object], batch)
        if len(parts) > 2:
            raise DataError(
                f"a batch of {len(parts)} parts does not say which are the classes: none is named so. {WAY_OUT}"
            )
        last = parts[1] if len(parts) == 2 else None
        found = {"[1]": last} if isinstance(last, Tensor | np.ndarray) else _named(last)
    if len({id(each) for each in found.values()}) > 1:
        raise DataError(f"the classes of a batch may be its {' or its '.join(map(repr, found))}. {WAY_OUT}")
    target = next(iter(found.values()), None)
    if isinstance(target, Tensor | np.ndarray):
        return torch.as_tensor(target)
    raise DataError(
        f"no classes found in a batch of type {type(batch).__name__}: a tensor with them is searched under "
        f"{', '.join(map(repr, NAMES))}, or as the second of a pair. {WAY_OUT}"
    )


def targets_for(optimizer: SharpnessAware, batch: object, row_targets: Callable[[object], Tensor]) -> Tensor:
    """Find what a method needs to know about a batch's rows: their classes, or only their number.

    Args:
        optimizer: The method.
        batch: The batch.
        row_targets: Function that returns the classes, or something else with one entry per row.

    Returns:
        The result of ``row_targets`` for a method that needs classes; else a tensor with one entry per row.

    Raises:
        DataError: If there are none.
    """
    if optimizer.class_aware:
        return _checked(row_targets(batch))
    try:
        found = _checked(row_targets(batch))
    except DataError:
        return torch.zeros(count_rows(batch), dtype=torch.long)
    # Not as found: those of two micro-batches may differ in shape, as tokens do.
    classes = found.ndim == 1 and not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    return found if classes else torch.zeros(found.size(0), dtype=torch.long)


def _checked(targets: object) -> Tensor:
    if isinstance(targets, Tensor) and targets.ndim:
        return targets
    shape = f"the shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else f"type {type(targets).__name__}"
    raise DataError(f"the targets of a batch must be a tensor with one entry for each row; they have {shape}.")


def _named(part: object) -> dict[str, object]:
    """Return what a part of a batch has under the names of classes."""
    if isinstance(part, Mapping):
        found = {name: part[name] for name in NAMES if name in part}
    elif isinstance(part, Tensor | np.ndarray | str) or is_list(part):
        found = {}
    else:
        found = {name: getattr(part, name, None) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None}
