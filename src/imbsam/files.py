"""Writing files so that a reader finds the old content or the new, never a part."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from imbsam.errors import RunError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write aside, flush to the disk, rename.

    Args:
        path: Where; its folder is made if missing.
        content: Text is written as UTF-8.

    Raises:
        RunError: If the file cannot be written (disk full, no permission); what stood there before still stands.
    """
    with written_aside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends; where that fails, what stood there before is kept.

    Args:
        path: Where; its folder is made if missing.

    Yields:
        The file to write to.

    Raises:
        RunError: If the file cannot be written (disk full, no permission).
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}. What stood there before is kept.") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON atomically.

    Raises:
        RunError: If the file cannot be written.
    """
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: a JSON object was expected.")
    return content
