"""Progress of a fit: a line for each of its parts, or in a notebook one line that is replaced."""

import threading
import time
from html import escape
from types import TracebackType
from typing import Protocol

from imbsam.notebook.kernel import is_kernel

SECONDS_BETWEEN = 0.1
"""A notebook keeps up with about ten changes a second."""


class _Handle(Protocol):
    """IPython's handle of an output that can be replaced."""

    def display(self, shown: dict[str, str], *, raw: bool) -> None: ...
    def update(self, shown: dict[str, str], *, raw: bool) -> None: ...


class Progress:
    """Show the progress of work that has several parts.

    In a notebook there is a bar and the last line, and once the work is done the last line alone; elsewhere every line
    is printed. Several threads may report their parts.

    Args:
        parts: Largest number of parts.
        shown: Whether to show anything.
    """

    def __init__(self, parts: int, *, shown: bool) -> None:
        self._parts, self._shown = parts, shown
        self._handle = _handle() if shown else None
        self._lock = threading.Lock()
        self._done = 0
        self._last = ""
        self._told_at: float | None = None

    def __enter__(self) -> "Progress":
        return self

    def tell(self, line: str) -> None:
        """Count a finished part, and show a line about it.

        Args:
            line: One line of text.
        """
        if not self._shown:
            return
        with self._lock:
            self._done += 1
            if self._handle is None:
                print(line)
                return
            now = time.monotonic()
            if self._told_at is None or now - self._told_at >= SECONDS_BETWEEN:
                self._show(line, f'<progress value="{self._done}" max="{self._parts}"></progress> ')
                self._told_at = now
            self._last = line

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._last:
            self._show(self._last, "")

    def _show(self, line: str, bar: str) -> None:
        assert self._handle is not None
        line = f"{line} ({self._done} of {self._parts})"
        html = f'<pre style="margin: 0; font-family: monospace">{bar}{escape(line)}</pre>'
        shown = {"text/plain": line, "text/html": html}
        if self._told_at is None:
            self._handle.display(shown, raw=True)
        else:
            self._handle.update(shown, raw=True)


def _handle() -> _Handle | None:
    """Return a handle of an output that can be replaced, or None outside a notebook."""
    if not is_kernel():
        return None
    from IPython.display import DisplayHandle

    handle: _Handle = DisplayHandle()
    return handle
