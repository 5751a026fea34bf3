"""Checks that outputs can be written, made before the work; they leave nothing behind."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from imbsam.errors import RunError
from imbsam.storage.texts import readable


def check_writable(path: Path) -> None:
    """Check that a file can be written; its folder may be missing.

    Raises:
        RunError: If the file cannot be written; nothing was made.
    """
    missing: list[Path] = []
    try:
        if is_stream(path):
            return
        place = end_of(path)
        missing = [folder for folder in place.parents if not folder.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        _check_name(place)
        aside = aside_of(place)
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise RunError(f"cannot write {readable(str(path))}: {_reason(path, error)}. Choose another place.") from None
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_folder(folder: Path, files: Iterable[str]) -> None:
    """Check that files with these names can be written into a folder, which may be missing.

    Raises:
        RunError: If a file cannot be written; nothing was made.
    """
    for name in files:
        check_writable(folder / name)


def is_stream(path: Path) -> bool:
    """Return whether a path is written to directly: a pipe, a terminal, ``/dev/null``."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(kind) and not stat.S_ISDIR(kind)


def end_of(path: Path) -> Path:
    """Return where a path leads after following links."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError where links lead in a circle.


def aside_of(path: Path) -> Path:
    """Return the path of a temporary file beside a file, however long the file's name is."""
    return path.with_name(f".{path.name[:32]}.{os.getpid()}.part")


def _check_name(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        place.stat()  # A name that is too long, a file where a folder must be.
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has this name")
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, "it is write-protected")


def _reason(path: Path, error: OSError) -> str:
    with contextlib.suppress(OSError):
        for folder in path.parents:
            if folder.is_file():
                return f"{readable(str(folder))} is a file, not a folder"
    return str(error.strerror or error)
