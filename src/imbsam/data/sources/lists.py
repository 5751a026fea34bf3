"""List files, one ``relative/path label`` a line, as ImageNet-LT and iNaturalist are handed around."""

import os
import re
from pathlib import Path

from imbsam.data.sources.raw import PARTS, Part, PartName, Raw, by_part, index_labels, part_of
from imbsam.errors import DataError

WORD_OF_PART: dict[PartName, tuple[str, ...]] = {"validation": ("val", "validation", "valid"), "test": ("test",)}


def read_lists(path: Path, root: Path | None = None) -> Raw:
    """Read ``*train*.txt`` and, where they are, ``*val*.txt`` and ``*test*.txt`` beside it.

    Args:
        path: The folder of the list files, or the training list itself; then ``train`` in its name is replaced to find
            the others.
        root: The folder that paths in the lists are relative to; by default the folder of the lists.

    Returns:
        The parts; a class is called by its number.

    Raises:
        DataError: If a part has several lists, a line is malformed, or a path leaves the root.
    """
    lists = _lists_in_folder(path) if path.is_dir() else _lists_beside(path)
    folder = root or (path if path.is_dir() else path.parent)
    files: dict[PartName, list[Path]] = {}
    labels: dict[PartName, list[str]] = {}
    for part in PARTS:
        if part in lists:
            files[part], labels[part] = _read_list(lists[part], folder)
    classes, targets = index_labels(labels)
    parts = {part: Part(of, targets[part], [str(file) for file in of]) for part, of in files.items()}
    name = path.resolve().name if path.is_dir() else path.stem
    return Raw(name, classes, parts)


def training_lists(folder: Path) -> list[Path]:
    """The text files of a folder whose names say that they list training data."""
    return [path for path in sorted(folder.glob("*.txt")) if part_of(path.name) == "train"]


def _lists_in_folder(folder: Path) -> dict[PartName, Path]:
    found = by_part(sorted(folder.glob("*.txt")))
    for part, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DataError(f"{folder}: several lists for the {part} part: {names}. Name the training list itself.")
    return {part: paths[0] for part, paths in found.items()}


def _lists_beside(path: Path) -> dict[PartName, Path]:
    lists: dict[PartName, Path] = {"train": path}
    for part, words in WORD_OF_PART.items():
        beside = [path.with_name(re.sub("(?i)train(ing)?", word, path.name)) for word in words]
        found = [other for other in beside if other != path and other.is_file()]
        lists |= {part: found[0]} if found else {}
    return lists


def _read_list(path: Path, root: Path) -> tuple[list[Path], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a text file ({error}).") from error
    files, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not name or not re.fullmatch(r"\d+", label):
            raise DataError(f"{path} line {number}: expected 'relative/path label' with a label from 0; got {line!r}.")
        name = name.strip()
        # By spelling, not by what links point to: image folders are often links to another disk.
        if os.path.isabs(name) or ".." in re.split(r"[/\\]", name):  # noqa: PTH117 (a Path takes ten times as long)
            raise DataError(f"{path} line {number}: the path {name!r} leaves the root {root}. Use paths below it.")
        files.append(root / name)
        labels.append(str(int(label)))
    if not files:
        raise DataError(f"{path}: the list is empty.")
    return files, labels
