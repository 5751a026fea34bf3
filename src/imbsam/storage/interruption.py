"""SIGINT and SIGTERM: some blocks make them wait, and anything else stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Signal that asked the command to end.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended: 130 after SIGINT, 143 after SIGTERM."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


@contextmanager
def raised() -> Iterator[None]:
    """Raise :class:`Stopped` at either signal, wherever the block is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled_by(stop):
        yield


class HeldBack:
    """Record of whether a signal has come.

    Attributes:
        number: Number of the first signal, or ``None``.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Raise :class:`Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped(self.number)


@contextmanager
def held_back() -> Iterator[HeldBack]:
    """Make the first signal wait for :meth:`HeldBack.check` or the end of the block; a second one acts at once.

    At the end the signal is passed to its earlier handler. Processes forked inside the block (those that prepare
    batches) wait as well, so that a Ctrl-C, which reaches all of them, does not end them too early.

    Yields:
        Record to check.
    """
    held = HeldBack()

    def note(number: int, frame: FrameType | None) -> None:
        if held.number is not None:
            _hand_on(number, before)
            raise Stopped(number)
        held.number = number

    with _handled_by(note) as before:
        try:
            yield held
        finally:
            if held.number is not None:
                _hand_on(held.number, before)
    held.check()


def ignored() -> None:
    """Ignore further signals, so that this process can end undisturbed."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


Handlers = dict[int, object]


def _hand_on(number: int, handlers: Handlers) -> None:
    signal.signal(number, handlers[number])  # type: ignore[arg-type]
    signal.raise_signal(number)


@contextmanager
def _handled_by(handler: object) -> Iterator[Handlers]:
    """Handle both signals, except those that this process was told to ignore; only a main thread can."""
    main = threading.current_thread() is threading.main_thread()
    before: Handlers = {n: signal.getsignal(n) for n in SIGNALS} if main else {}
    before = {n: held for n, held in before.items() if held not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)  # type: ignore[arg-type]
        yield before
    finally:
        for number, held in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, held)  # type: ignore[arg-type]
