"""The command in the processes that torchrun started: one prints, and all end alike."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from imbsam.cli.actions import act
from imbsam.cli.commands import parse
from imbsam.errors import OptionError
from imbsam.runs.ranks import joined


def act_together(words: Sequence[str]) -> int:
    """Run a command in all processes; only the first one prints.

    Args:
        words: Command that the user typed.

    Returns:
        The exit code.

    Raises:
        ImbsamError: If the input cannot be used, or a process failed, in every process.
        KeyboardInterrupt: If the user interrupts.
    """
    with joined() as world:
        if not world.first:
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  As long as the process lives.
        if words[0] != "train":
            raise OptionError(f"imbsam {words[0]} does not run in several processes: start it without torchrun.")
        return act(parse(words), words, world)
