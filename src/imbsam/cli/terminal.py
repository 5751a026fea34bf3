"""Standard output and error, in which a failure to print does not lose the work."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imbsam.storage.texts import READABLE


class OutputLostError(Exception):
    """Standard output that cannot be written to."""


class Output(io.TextIOWrapper):
    """Standard output, whose failures are distinguished from those of other files."""

    def write(self, text: str, /) -> int:
        """Write text."""
        with _told():
            return super().write(text)

    def flush(self) -> None:
        """Write buffered text."""
        with _told():
            super().flush()


class Messages(io.TextIOWrapper):
    """Standard error, whose loss (a full disk, a closed terminal) does not end the work."""

    def write(self, text: str, /) -> int:
        """Write text, or ignore a failure."""
        with suppress(OutputLostError), _told():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write buffered text, or ignore a failure."""
        with suppress(OutputLostError), _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # Who reads it has seen enough, and this ends the command.
        raise
    except OSError as error:
        raise OutputLostError(error.strerror or str(error)) from None


def begin_in_utf8() -> None:
    """Restart this process if Python would decode file names by an old locale, so that they mean the same everywhere.

    Standard output keeps its encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    environment = {"PYTHONIOENCODING": encoding, **os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def prepare() -> None:
    """Make standard output and error accept every text, in plain letters where their encoding lacks one."""
    for name, kind in (("stdout", Output), ("stderr", Messages)):
        stream = getattr(sys, name)
        if stream is None:  # Closed by whoever started the command. The next file opened must not take its place.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  As long as the process lives.
        elif type(stream) is io.TextIOWrapper and stream is getattr(sys, f"__{name}__"):
            # As they were, so that what is printed under PYTHONUNBUFFERED still comes at once.
            lines, at_once = stream.line_buffering, stream.write_through
            anew = kind(stream.buffer, stream.encoding, READABLE, line_buffering=lines, write_through=at_once)
            setattr(sys, name, anew)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def end_output() -> None:
    """Stop printing: Python would try again when it closes standard output, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
