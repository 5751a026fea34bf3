"""Importing large packages, torch above all."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_import(package: str) -> Iterator[None]:
    """Collect no garbage within the block, which imports a package; nothing changes where it is loaded already.

    All of the hundred thousands of objects that torch's modules are made of stay, and the collector goes through them
    again and again as they become more: a quarter of the time of the import. Later collections leave them out, too.

    Args:
        package: Its name.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
