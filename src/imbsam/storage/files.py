"""Atomic writing of files: a reader finds the old content or the new, never a part."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from imbsam.errors import RunError
from imbsam.storage.outputs import aside_of, end_of, is_stream
from imbsam.storage.texts import READABLE, json_text, readable

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

WAIT = 8.0
"""Seconds that :func:`alone` waits for another process to release the lock."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file atomically: write beside it, flush to the disk, rename.

    Args:
        path: Path of the file; its folder is made if missing.
        content: Content; text is written as UTF-8, with other names made :func:`~imbsam.storage.texts.readable`.

    Raises:
        RunError: If the file cannot be written (disk full, no permission); the old file is then kept.
    """
    with written_aside(path) as file:
        file.write(content.encode("utf-8", READABLE) if isinstance(content, str) else content)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces another when the block ends; if the block fails, the old file is kept.

    A pipe or ``/dev/null`` is written to directly.

    Args:
        path: Path of the file; its folder is made if missing.

    Yields:
        The file to write to.

    Raises:
        RunError: If the file cannot be written (disk full, no permission).
    """
    if is_stream(path):
        with _told(path, "It may hold a part."), path.open("wb") as file:
            yield file
        return
    with _aside(path) as aside, aside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def keep_as(path: Path, other: Path) -> None:
    """Give a file a second name, atomically; a file with that name is replaced.

    Args:
        path: The file; if it does not exist, nothing happens.
        other: Second name of the file.

    Raises:
        RunError: If the name cannot be written.
    """
    if not path.exists():
        return
    with _aside(other) as aside:
        aside.unlink(missing_ok=True)
        try:
            os.link(path, aside)
        except OSError:  # A file system without links.
            shutil.copyfile(path, aside)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the result replaces the file when the block ends, and is removed if the block fails."""
    with _told(path, "The earlier content is kept."):
        place = end_of(path) if path.is_symlink() else path
        aside = aside_of(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            aside.replace(place)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: Path, more: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"cannot write {readable(str(path))}: {error.strerror or error}. {more}") from None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes while the block runs, or this process lives.

    On a system without such locks other processes are not locked out.

    Raises:
        RunError: If another process has the lock and keeps it.
    """
    if fcntl is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}.") from None
    try:
        # The processes that prepare batches outlive a killed run by a few seconds.
        until = time.monotonic() + WAIT
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise RunError(
                    f"another process is training in {folder}. Wait until it ends, or choose another folder."
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # A network file system without locks.
        return True
    return True


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON atomically.

    Raises:
        RunError: If the file cannot be written.
    """
    write_atomically(path, as_json(content))


def as_json(content: Mapping[str, object]) -> str:
    """Return the text of a JSON file of ours."""
    return json_text(content, indent=1) + "\n"


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


def harmless(cell: str) -> str:
    """Return a readable text that a spreadsheet does not run as a formula."""
    cell = readable(cell)
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
