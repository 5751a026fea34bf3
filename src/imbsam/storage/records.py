"""Records: dataclasses stored in JSON files, one per file or per line, checked when they are read."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from imbsam.errors import RunError
from imbsam.storage.files import write_json
from imbsam.storage.texts import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA: Literal[1] = 1
ADVICE = "The file is damaged or of another version of imbsam: make it again, or restore it."

T = TypeVar("T")


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_shown)]
"""Text to be shown: characters that cannot be printed are replaced when it is read."""


def write_record(path: Path, record: "DataclassInstance") -> None:
    """Write a record atomically.

    Raises:
        RunError: If the file cannot be written.
    """
    write_json(path, asdict(record))


def read_record(kind: type[T], path: Path) -> T:
    """Read the record in a file.

    Raises:
        RunError: If the file is missing, cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}.") from None
    return parsed(kind, content, f"{path}")


def parsed(kind: type[T], content: bytes | str, place: str) -> T:
    """Parse a record.

    Args:
        kind: Dataclass of the record.
        content: JSON text.
        place: Name of the place, for messages.

    Raises:
        RunError: If the record is damaged.
    """
    try:
        held: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{place}: not valid JSON ({error}). {ADVICE}") from None
    return checked_record(kind, held, place)


def checked_record(kind: type[T], held: object, place: str) -> T:
    """Build a record from plain values.

    Args:
        kind: Dataclass of the record.
        held: Values by name.
        place: Name of the place, for messages.

    Raises:
        RunError: If a value does not fit; the message names the first.
    """
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        return adapter.validate_python(held)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise RunError(f"{place}: {entry}{first['msg'].removeprefix('Value error, ')}. {ADVICE}") from None


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
