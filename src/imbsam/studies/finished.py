"""Finished runs in the folders that a user names."""

from collections.abc import Sequence
from pathlib import Path

from imbsam.errors import OptionError, RunError
from imbsam.runs.folder import RunFolder
from imbsam.studies.comparison import Comparison


def finished_runs(paths: Sequence[Path]) -> list[Path]:
    """Return folders of finished runs; that of a comparison stands for its finished runs.

    Args:
        paths: Paths that the user named.

    Raises:
        OptionError: If a run is named twice.
        RunError: If a folder contains no run, or no run of a comparison is finished.
    """
    folders = []
    for path in paths:
        if not Comparison.stands_in(path):
            folders.append(path)
            continue
        finished = [path / name for name in Comparison.read(path).runs if RunFolder(path / name).result.exists()]
        if not finished:
            raise RunError(f"no run of the comparison in {path} is finished. Run the comparison again.")
        folders += finished
    for folder in folders:
        RunFolder(folder).read_config()
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise OptionError("the same run is given twice. Give each run once.")
    return folders
