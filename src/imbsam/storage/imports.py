"""Importing large packages, torch above all."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_import(package: str) -> Iterator[None]:
    """Collect no garbage within the block, which imports a package; a package that is loaded changes nothing.

    All of the hundred thousands of objects that torch's modules are made of stay, and the collector goes through them
    again and again as they become more: a quarter of the time of the import.

    Args:
        package: Name of the package.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
