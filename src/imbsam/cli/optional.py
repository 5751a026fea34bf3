"""How the command line reads and shows options that may be ``None``."""

from dataclasses import replace
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

NONE = ["None"]


def registry() -> ConstructorRegistry:
    """Rules for :func:`tyro.cli` by which ``T | None`` is shown as ``T``; the word ``None`` is still read as none."""
    made = ConstructorRegistry()
    made.primitive_rule(_optional)
    return made


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    types = [each for each in get_args(info.type) if each is not NoneType]
    if get_origin(info.type) not in (Union, UnionType) or len(types) != 1 or len(get_args(info.type)) != 2:
        return None
    inner = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(types[0], set(info.markers)))
    if not isinstance(inner, PrimitiveConstructorSpec) or inner.nargs != 1:
        return None
    return replace(
        inner,
        instance_from_str=lambda words: None if words == NONE else inner.instance_from_str(words),
        is_instance=lambda value: value is None or inner.is_instance(value),
        str_from_instance=lambda value: NONE if value is None else inner.str_from_instance(value),
    )
