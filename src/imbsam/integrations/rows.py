"""Content of a batch by rows: parts with one entry per row, parts that are the same for all, and containers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol, Self, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from imbsam.errors import DataError
from imbsam.integrations.containers import Parts, list_like, with_parts

Reason = Literal["shape", "object", "unclear"]
"""Reason why a part has no rows: another first dimension, an unknown class, or two ways to read it."""


class Read(Protocol):
    """Part of a batch whose rows are known."""

    @property
    def value(self) -> object:
        """Part itself."""

    def take(self, rows: Tensor) -> "Read":
        """Return rows by indices of shape ``(R,)`` on the CPU."""

    def joined(self, others: Sequence[Self]) -> "Read | None":
        """Append the rows of others of the same kind; ``None`` if that is not possible."""


def joined(parts: Sequence[Read]) -> Read | None:
    """Join the rows of several batches; ``None`` if their forms differ, so that they stay apart."""
    first, *others = parts
    if any(type(other) is not type(first) for other in others):
        return None
    return first.joined(others) if others else first


@dataclass(frozen=True)
class Same:
    """Part that is the same for every row."""

    value: object

    def take(self, rows: Tensor) -> "Same":
        """Return the part, which every row has."""
        return self

    def joined(self, others: Sequence["Same"]) -> "Same | None":
        """Return one of the parts, if all are equal."""
        return self if all(_equal(self.value, other.value) for other in others) else None


@dataclass(frozen=True)
class Unread:
    """Part whose rows are not known: it is passed on whole, and neither cut nor joined.

    Attributes:
        value: The part.
        reason: Reason why its rows are not known.
        why: The reason in words, for the error when it is cut.
    """

    value: object
    reason: Reason
    why: str

    def take(self, rows: Tensor) -> NoReturn:
        """Refuse to cut the part."""
        raise DataError(self.why)

    def joined(self, others: Sequence["Unread"]) -> None:
        """Return ``None``: the rows are not known."""
        return


def reasons(part: Read) -> set[Reason]:
    """Return why some parts of a batch have no rows."""
    if isinstance(part, Container):
        return {reason for inner in part.parts.values() for reason in reasons(inner)}
    return {part.reason} if isinstance(part, Unread) else set()


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


@dataclass(frozen=True)
class Dense:
    """Tensor or array whose first dimension is the batch."""

    value: Tensor | np.ndarray

    def take(self, rows: Tensor) -> "Dense":
        """Take rows."""
        if isinstance(self.value, np.ndarray):
            return Dense(self.value[rows.numpy()])
        index = rows.to(self.value.device)
        return Dense(self.value.index_select(0, index) if self.value.is_sparse else self.value[index])

    def joined(self, others: Sequence["Dense"]) -> "Dense | None":
        """Append the rows of others of the same dtype and shape."""
        values = [self.value, *(other.value for other in others)]
        if len({self._form(value) for value in values}) > 1:
            return None
        if isinstance(self.value, np.ndarray):
            return Dense(np.concatenate(cast(list[np.ndarray], values)))
        return Dense(torch.cat(cast(list[Tensor], values)))

    @staticmethod
    def _form(value: Tensor | np.ndarray) -> tuple[object, ...]:
        return type(value), value.dtype, tuple(value.shape[1:]), str(getattr(value, "device", ""))


@dataclass(frozen=True)
class Items:
    """One entry per row: a list, a nested tensor, or packed sequences.

    Attributes:
        value: Container of the entries.
        items: Entries, one per row.
        make: Function that makes a container like ``value`` from other entries.
        form: Form that must agree for the entries of two to be joined.
    """

    value: object
    items: Sequence[object]
    make: Callable[[Sequence[object]], object]
    form: object

    @classmethod
    def of_list(cls, value: Sequence[object]) -> "Items":
        """Make entries from a list with one entry of any kind per row."""
        return cls(value, value, lambda items: list_like(value, items), type(value))

    @classmethod
    def of_nested(cls, value: Tensor) -> "Items":
        """Make entries from a nested tensor (``torch.nested``), with a tensor of its own length per row."""
        tensors, layout = value.unbind(), value.layout

        def make(items: Sequence[object]) -> object:
            return torch.nested.as_nested_tensor(list(cast(Sequence[Tensor], items)), layout=layout)

        return cls(value, tensors, make, (layout, value.dtype, tensors[0].shape[1:] if tensors else ()))

    @classmethod
    def of_packed(cls, value: PackedSequence) -> "Items":
        """Make entries from packed sequences, in the order of the rows."""
        tensors = unpack_sequence(value)

        def make(items: Sequence[object]) -> object:
            return pack_sequence(cast(list[Tensor], list(items)), enforce_sorted=False)

        return cls(value, tensors, make, (PackedSequence, value.data.dtype, value.data.shape[1:]))

    def take(self, rows: Tensor) -> "Items":
        """Return the entries of rows."""
        return self._with([self.items[i] for i in rows.tolist()])

    def joined(self, others: Sequence["Items"]) -> "Items | None":
        """Append the entries of others of the same form."""
        if any(other.form != self.form for other in others):
            return None
        return self._with([item for each in (self, *others) for item in each.items])

    def _with(self, items: Sequence[object]) -> "Items":
        return Items(self.make(items), items, self.make, self.form)


@dataclass(frozen=True)
class Container:
    """Container of parts, each with rows or the same for all."""

    value: object
    parts: dict[object, Read]

    def take(self, rows: Tensor) -> "Container":
        """Take rows of each part."""
        return self._with({key: part.take(rows) for key, part in self.parts.items()})

    def joined(self, others: Sequence["Container"]) -> "Container | None":
        """Join each part with those of others under the same key."""
        if any(type(o.value) is not type(self.value) or o.parts.keys() != self.parts.keys() for o in others):
            return None
        parts: dict[object, Read] = {}
        for key, part in self.parts.items():
            whole = joined([part, *(other.parts[key] for other in others)])
            if whole is None:
                return None
            parts[key] = whole
        return self._with(parts)

    def _with(self, parts: dict[object, Read]) -> "Container":
        values: Parts = {key: part.value for key, part in parts.items()}
        return Container(with_parts(self.value, values), parts)
