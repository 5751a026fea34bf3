"""The page of the command: the help of each of its commands, as the command prints it."""

import contextlib
import io
import os
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from imbsam.cli.commands import COMMANDS, parse

PAGE = "reference/command.md"
WIDTH = "110"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the page."""
    files.append(File.generated(config, PAGE, content=written()))
    return files


def written() -> str:
    """The page in Markdown."""
    sections = [
        f"## imbsam {name}\n\n{kind.summary()}\n\n```text\n{helped(name)}\n```" for name, kind in COMMANDS.items()
    ]
    top = "# The command imbsam\n\nThis page shows what `imbsam COMMAND --help` prints."
    return "\n\n".join([f"{top} [From data to a report](../commands.md) says how to begin.", *sections]) + "\n"


def helped(name: str) -> str:
    """What a command prints when it is asked for help."""
    text, before = io.StringIO(), dict(os.environ)
    os.environ.update(COLUMNS=WIDTH, NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            parse([name, "--help"])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return COLOURS.sub("", text.getvalue()).strip()
