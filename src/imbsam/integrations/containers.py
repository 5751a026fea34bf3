"""Containers that a batch is made of: their parts, and copies with other parts."""

from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from typing import NamedTuple, cast

import torch

Parts = Mapping[object, object]
NOT_PARTED = (str, bytes, bytearray, memoryview, torch.Size)
"""Sequences that are not taken apart."""


def is_named_tuple(value: object) -> bool:
    """Return whether a tuple is a NamedTuple."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_list(value: object) -> bool:
    """Return whether something is a list, tuple or other sequence without names, which may have one entry per row."""
    return isinstance(value, Sequence) and not isinstance(value, NOT_PARTED) and not is_named_tuple(value)


def parts_of(value: object) -> Parts | None:
    """List the parts of a mapping, a NamedTuple, a dataclass or a list by their keys, names or places.

    Returns:
        The parts; ``None`` for what has no parts.
    """
    if isinstance(value, Mapping):
        return dict(value.items())
    if is_named_tuple(value):
        return {name: getattr(value, name) for name in cast(NamedTuple, value)._fields}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return dict(enumerate(cast(Sequence[object], value))) if is_list(value) else None


def with_parts(value: object, parts: Parts) -> object:
    """Copy a container with other parts under the same keys.

    The copy has the same class; only a mapping or sequence that cannot be made from its parts becomes a dict or a list.

    Args:
        value: Container whose parts :func:`parts_of` returned.
        parts: Parts of the copy, as many.
    """
    if isinstance(value, Mapping):
        return _mapping_like(value, parts)
    if is_named_tuple(value):
        return cast(type[NamedTuple], type(value))._make(parts.values())
    if is_list(value):
        return list_like(cast(Sequence[object], value), list(parts.values()))
    # Not dataclasses.replace, which runs __post_init__ once more and knows no fields with init=False.
    made = copy(value)
    for name, part in parts.items():
        object.__setattr__(made, cast(str, name), part)
    return made


def list_like(value: Sequence[object], items: Sequence[object]) -> Sequence[object]:
    """Make a list, a tuple or another sequence of the same class, of any length."""
    try:
        return type(value)(items)  # type: ignore[call-arg]
    except TypeError:
        return list(items)


def _mapping_like(value: Mapping[object, object], parts: Parts) -> Mapping[object, object]:
    if isinstance(value, MutableMapping):
        made = copy(value)
        for key, part in parts.items():
            made[key] = part
        return made
    try:
        return type(value)(parts)  # type: ignore[call-arg]
    except TypeError:
        return dict(parts)
