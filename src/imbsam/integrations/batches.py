"""Batches from data loaders: the number of their rows, and which parts have one entry per row."""

from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from imbsam.errors import DataError
from imbsam.integrations.containers import is_list, parts_of
from imbsam.integrations.rows import Container, Dense, Items, Read, Same, Unread, reasons

Place = tuple[object, ...]
"""Keys and indices that lead to a part of a batch."""
PLAIN = (
    *(type(None), str, bytes, bytearray, Number, np.generic, Enum, date, time, timedelta, PurePath),
    *(torch.Size, torch.dtype, torch.device, type),
)
"""Things that have no rows of their own."""
WAY_OUT = (
    "cut it by take_rows(batch, rows), a method of the mixin or an argument of the backward, or give the optimizer "
    'rows="all", which forwards whole batches'
)


class BatchReader:
    """Reader of batches of one kind, which remembers what earlier batches showed about their lists.

    A list with as many entries as the batch has rows may have one entry per row, or its length may be equal by chance.
    A batch of another size shows which.

    Attributes:
        collated: Whether ``default_collate`` made the batches; it makes lists of rows only for strings.
    """

    def __init__(self) -> None:
        self.collated = False
        self._one_a_row: dict[Place, bool] = {}

    def read(self, batch: object, size: int) -> Read:
        """Find the rows of everything in a batch.

        Args:
            batch: Tensors and arrays whose first dimension is the batch, lists with one entry per row, and constants,
                alone or in mappings, NamedTuples, dataclasses and sequences.
            size: Number of rows of the batch.
        """
        return self._read(batch, size, ())

    def _read(self, part: object, size: int, place: Place) -> Read:
        if isinstance(part, Tensor | np.ndarray | PackedSequence):
            return _read_tensor(part, size, place)
        if isinstance(part, PLAIN):
            return Same(part)
        if is_list(part):
            return self._read_list(cast(Sequence[object], part), size, place)
        return self._read_container(part, size, place)

    def _read_container(self, part: object, size: int, place: Place) -> Container | Unread:
        parts = parts_of(part)
        if parts is None:
            why = f"{_named(place)} is of the class {type(part).__name__}, whose rows are not known: {WAY_OUT}."
            return Unread(part, "object", why)
        return Container(part, {key: self._read(inner, size, (*place, key)) for key, inner in parts.items()})

    def _read_list(self, items: Sequence[object], size: int, place: Place) -> Read:
        columns = self._read_container(items, size, place)
        if len(items) != size or not _alike(items):
            self._one_a_row[place] = False
            return columns
        if reasons(columns) - {"unclear"}:
            self._one_a_row[place] = True
            return Items.of_list(items)
        # As default_collate gives pairs and triples.
        if place == () and all(isinstance(item, Tensor | np.ndarray) for item in items):
            return columns
        known = all(isinstance(item, str | bytes) for item in items) if self.collated else self._one_a_row.get(place)
        if known is not None:
            return Items.of_list(items) if known else columns
        return Unread(
            items,
            "unclear",
            f"{_named(place)} is a {type(items).__name__} of {size} things in a batch of {size} rows: one for each "
            "row, or the same number by chance? Make it a tensor or an array where it has rows, keep it out of the "
            "batch where "
            f"it has none, or {WAY_OUT}.",
        )


def take_rows(batch: object, rows: Tensor, size: int | None = None) -> object:
    """Take rows of everything in a batch; containers keep their class.

    Args:
        batch: Tensors and arrays whose first dimension is the batch, lists with one entry per row, and constants,
            alone or in mappings, NamedTuples, dataclasses and sequences.
        rows: Indices of the rows, shape ``(R,)``, on the CPU.
        size: Number of rows of the batch; by default they are counted.

    Raises:
        DataError: If a part of the batch has no such rows, or there are two ways to read it.
    """
    return BatchReader().read(batch, count_rows(batch) if size is None else size).take(rows).value


def count_rows(batch: object) -> int:
    """Count the rows of a batch: the only number by which every part of it can be cut.

    Args:
        batch: Batch, as for :func:`take_rows`.

    Raises:
        DataError: If there is no such number, or several.
    """
    lengths = sorted({length for length in _lengths(batch, top=True) if length})
    possible = [length for length in lengths if "shape" not in reasons(BatchReader().read(batch, length))]
    if len(possible) == 1:
        return possible[0]
    found = f"it may have {' or '.join(map(str, possible))}" if possible else f"its parts have the lengths {lengths}"
    raise DataError(
        f"how many rows a batch of type {type(batch).__name__} has is not clear: {found}. Override row_targets, or "
        "give targets=, with a tensor of one entry for each row; a method that needs no classes only counts them."
    )


def _alike(items: Sequence[object]) -> bool:
    """Return whether things may be the rows of one list: of one kind and form, apart from lengths and missing ones."""
    some = [item for item in items if item is not None]
    if not some or all(isinstance(item, PLAIN) for item in some):
        return True
    if len({_kind(item) for item in some}) > 1:
        return False
    parts = [inner for inner in map(parts_of, some) if inner is not None]
    if not parts:
        return True
    shared = [key for key in parts[0] if all(key in inner for inner in parts)]
    return (bool(shared) or not all(parts)) and all(_alike([inner[key] for inner in parts]) for key in shared)


def _kind(item: object) -> object:
    if isinstance(item, Tensor | np.ndarray):
        return isinstance(item, Tensor), item.dtype, item.ndim
    return list if is_list(item) else type(item)


def _read_tensor(part: Tensor | np.ndarray | PackedSequence, size: int, place: Place) -> Read:
    if isinstance(part, PackedSequence) or (isinstance(part, Tensor) and part.is_nested):
        read = Items.of_packed(part) if isinstance(part, PackedSequence) else Items.of_nested(part)
        if len(read.items) == size:
            return read
        shape = f"with {len(read.items)} sequences"
    elif part.ndim == 0:
        return Same(part)
    elif isinstance(part, Tensor) and part.layout not in (torch.strided, torch.sparse_coo):
        return Unread(part, "object", f"{_named(place)} is a tensor of the layout {part.layout}: {WAY_OUT}.")
    elif len(part) == size:
        return Dense(part)
    else:
        shape = f"of shape {tuple(part.shape)}"
    return Unread(
        part,
        "shape",
        f"{_named(place)}, a tensor {shape} in a batch of {size} rows, cannot be cut into rows: the first dimension of "
        f"every tensor of a batch must be the batch. Move it there, or {WAY_OUT}.",
    )


def _lengths(part: object, *, top: bool = False) -> Iterator[int]:
    """Return the numbers of rows that a part of a batch may have."""
    if isinstance(part, PackedSequence):
        yield int(part.batch_sizes[0])
    elif isinstance(part, Tensor | np.ndarray):
        if part.ndim:
            yield part.size(0) if isinstance(part, Tensor) else len(part)
    elif is_list(part):
        items = cast(Sequence[object], part)
        firsts = {first for item in items if isinstance(item, Tensor | np.ndarray) for first in _lengths(item)}
        # A pair of tensors of equal length has their rows, not two; where they have others, the first tells of all.
        tensors = all(isinstance(item, Tensor | np.ndarray) for item in items)
        if not (top and tensors and len(firsts) == 1):
            yield len(items)
        for item in items if top else items[:1]:
            yield from _lengths(item)
    elif not isinstance(part, PLAIN):
        for inner in (parts_of(part) or {}).values():
            yield from _lengths(inner)


def _named(place: Place) -> str:
    return "batch" + "".join(f"[{key!r}]" for key in place)
