"""Checks for a notebook, which prints escape codes of colours and cursor movements instead of obeying them."""

import os
import sys


def is_kernel() -> bool:
    """Tell whether this process is the kernel of a notebook; IPython in a terminal is not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def is_under_kernel() -> bool:
    """Tell whether this process is the kernel of a notebook, or a command that one started, such as ``!imbsam``.

    A kernel tells its commands that their output is a terminal that takes colours, which nothing else contradicts but
    the matplotlib backend that every kernel sets.
    """
    return "backend_inline" in os.environ.get("MPLBACKEND", "")
