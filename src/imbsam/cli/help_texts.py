"""Help texts of options: the docstrings of their fields, each as one paragraph."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from types import MappingProxyType
from typing import Annotated, get_args, get_origin

from docstring_parser import parse_from_object


def as_paragraphs(kind: type) -> None:
    """Note the docstring of each option as its help text; tyro would break it wherever its source does.

    Args:
        kind: Dataclass of a command; those of its fields are gone through, too.
    """
    for each, field in _options(kind):
        text = _documented(each).get(field.name)
        if text is not None:
            field.metadata = MappingProxyType({**field.metadata, "help": " ".join(text.split())})


def _options(kind: type) -> Iterator[tuple[type, "Field[object]"]]:
    """Yield every option, with the class that has it."""
    for field in fields(kind):
        inner = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if isinstance(inner, type) and is_dataclass(inner):
            yield from _options(inner)
        else:
            yield kind, field


def _documented(kind: type) -> dict[str, str]:
    """Return the docstring of each field by its name; a class's own before those of its bases."""
    found: dict[str, str] = {}
    for each in kind.__mro__:
        if is_dataclass(each):
            for field in parse_from_object(each).params:
                if field.description is not None:
                    found.setdefault(field.arg_name, field.description)
    return found
