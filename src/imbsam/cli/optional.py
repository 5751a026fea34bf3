"""Command-line form of options that may be ``None``, and of options that are mappings."""

from collections.abc import Mapping
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
    """Return rules for :func:`tyro.cli`.

    ``T | None`` is shown as ``T``; the word ``None`` is still read as none. A mapping is typed as ``NAME=VALUE ...``,
    and its values are the texts.
    """
    made = ConstructorRegistry()
    made.primitive_rule(_optional)
    made.primitive_rule(_pairs)
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


def _pairs(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if get_origin(info.type) is not Mapping:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=VALUE [NAME=VALUE ...]]",
        instance_from_str=lambda words: dict(_pair(word) for word in words),
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda value: [f"{name}={each}" for name, each in value.items()],
    )


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"give NAME=VALUE, for example alpha=0.4; got {word!r}")
    return name, value
