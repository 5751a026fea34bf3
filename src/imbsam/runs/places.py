"""Where a run goes when nobody says: a folder called by its data."""

import re
from pathlib import Path

RUNS = Path("runs")
"""The folder of the folders."""


def called_by(source: str) -> str:
    """What a folder is called by its data: a name that any file system takes.

    Args:
        source: As given by the user.
    """
    path = Path(source).resolve()
    name = path.name if path.is_dir() or not path.suffix else path.stem
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "data"


def free(path: Path) -> Path:
    """The path, or with a number where something is there already: a default name never overwrites."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
