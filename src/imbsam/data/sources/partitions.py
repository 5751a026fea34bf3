"""Reader of folders of tables that are partitioned by columns: ``year=2024/month=01/part-0.parquet``."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imbsam.data.sources.walk import visible
from imbsam.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""Word for a missing value in a folder's name."""


def divided(folder: Path) -> bool:
    """Return whether a folder contains folders named ``column=value``, and no others."""
    inside = [path.name for path in visible(folder) if path.is_dir()]
    return bool(inside) and all(name.find("=") > 0 for name in inside)


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """List all files of a partitioned folder, in order.

    Args:
        folder: The folder.
        above: The folders around it, resolved.

    Raises:
        DataError: If a folder in it is not named ``column=value``, or links to a folder that contains it.
    """
    here = folder.resolve()
    if here in above:
        raise DataError(f"{folder}: this link leads back to a folder that contains it. Remove it.")
    files: list[Path] = []
    for path in visible(folder):
        if not path.is_dir():
            files.append(path)
        elif path.name.find("=") > 0:
            files += files_below(path, (*above, here))
        else:
            raise DataError(f"{path}: folders beside it are named column=value, this is not. Move it elsewhere.")
    return files


def values_of(paths: Sequence[Path], root: Path | None) -> dict[str, list[str | None]]:
    """Return the columns that the folders' names define.

    Args:
        paths: Files below the root.
        root: The partitioned folder; without one there are no such columns.

    Returns:
        The value for each file, by column.

    Raises:
        DataError: If the files are partitioned by different columns.
    """
    found = [
        dict(name.split("=", 1) for name in path.relative_to(root).parts[:-1]) if root is not None else {}
        for path in paths
    ]
    for path, values in zip(paths, found, strict=True):
        if list(values) != list(found[0]):
            raise DataError(f"{path}: it is partitioned by {list(values)}, other files by {list(found[0])}.")
    columns = found[0] if found else {}
    return {name: [None if values[name] == NOTHING else unquote(values[name]) for values in found] for name in columns}


def column(value: str | None, rows: int, *, is_number: bool) -> "pa.Array":
    """Return a column with one value: the text in the folder's name, or the whole number that it is."""
    import pyarrow as pa

    kind = pa.int64() if is_number else pa.string()
    if value is None:
        return pa.nulls(rows, kind)
    return pa.repeat(pa.scalar(int(value) if is_number else value, kind), rows)


def are_numbers(values: Sequence[str | None]) -> bool:
    """Return whether all values are whole numbers without leading zeros."""
    return all(value is None or re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in values)
