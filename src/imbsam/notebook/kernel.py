"""Whether a notebook is at the other end: it shows colours and cursor movements as they come, one below the other."""

import os
import sys


def is_kernel() -> bool:
    """Whether this process is the kernel of a notebook, and no terminal with IPython in it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def is_under_kernel() -> bool:
    """Whether this process is the kernel of a notebook, or a command that one started, as by ``!imbsam``.

    A kernel tells its commands that their output is a terminal that takes colours, which nothing else contradicts but
    the matplotlib backend that every kernel sets.
    """
    return "backend_inline" in os.environ.get("MPLBACKEND", "")
