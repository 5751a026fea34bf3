"""Folders of tables that are divided by columns: ``year=2024/month=01/part-0.parquet``."""

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
"""How a missing value is written in a folder's name."""


def divided(folder: Path) -> bool:
    """Whether a folder holds folders that are named ``column=value``, and no other."""
    inside = [path.name for path in visible(folder) if path.is_dir()]
    return bool(inside) and all(name.find("=") > 0 for name in inside)


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """All files of a divided folder, in order.

    Args:
        folder: The folder.
        above: The folders around it, resolved.

    Raises:
        DataError: If a folder in it is not named ``column=value``, or is a link to one around it.
    """
    here = folder.resolve()
    if here in above:
        raise DataError(f"{folder}: this link leads back to a folder around it. Remove it.")
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
    """The columns that the folders' names say.

    Args:
        paths: Files below the root.
        root: The divided folder; without one there are no such columns.

    Returns:
        The value for each file, by column.

    Raises:
        DataError: If the files are divided by different columns.
    """
    found = [
        dict(name.split("=", 1) for name in path.relative_to(root).parts[:-1]) if root is not None else {}
        for path in paths
    ]
    for path, values in zip(paths, found, strict=True):
        if list(values) != list(found[0]):
            raise DataError(f"{path}: it is divided by {list(values)}, other files by {list(found[0])}.")
    columns = found[0] if found else {}
    return {name: [None if values[name] == NOTHING else unquote(values[name]) for values in found] for name in columns}


def column(value: str | None, rows: int, *, is_number: bool) -> "pa.Array":
    """A column of one value: as the folder's name has it, or the whole number that it is."""
    import pyarrow as pa

    kind = pa.int64() if is_number else pa.string()
    if value is None:
        return pa.nulls(rows, kind)
    return pa.repeat(pa.scalar(int(value) if is_number else value, kind), rows)


def are_numbers(values: Sequence[str | None]) -> bool:
    """Whether all values are whole numbers, none with a zero in front."""
    return all(value is None or re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in values)
