"""Threads of the processor in training: as many as asked for, and one for a dense network with small steps."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL = 8_000_000
"""Multiply-adds of a forward up to which more threads gain next to nothing. An operation waits for all of them, and so
for every core that is busy with something else."""


class _Here(threading.local):
    """Number that :func:`threads` has set in this Python thread; ``None`` outside of it."""

    number: int | None = None


_here, _lock = _Here(), threading.Lock()
_inside, _before = 0, 1


def is_small(network: nn.Module, rows: int) -> bool:
    """Return whether the steps of a dense network are too small to be shared among threads.

    Args:
        network: Network that uses each of its weights once per row, of any dtype.
        rows: Rows of a step.
    """
    parameters = list(network.parameters())
    on_cpu = all(p.device.type == "cpu" for p in parameters)
    return on_cpu and rows * sum(p.numel() for p in parameters) <= SMALL


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with so many threads inside, and with as many as before afterwards.

    Args:
        number: Number of threads; ``None`` leaves it as it is.
    """
    global _inside, _before
    if number is None:
        yield
        return
    outer = _here.number
    with _lock:
        if outer is None:
            # Whoever begins while another Python thread is inside finds that one's number, not the one from before.
            _before = _before if _inside else torch.get_num_threads()
            _inside += 1
        torch.set_num_threads(number)
    _here.number = number
    try:
        yield
    finally:
        _here.number = outer
        with _lock:
            if outer is None:
                _inside -= 1
            # torch keeps the number for each Python thread.
            torch.set_num_threads(_before if outer is None else outer)
