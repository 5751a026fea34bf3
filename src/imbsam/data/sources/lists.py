"""Reader of list files with lines ``relative/path label``, as ImageNet-LT and iNaturalist publish them."""

import os
import re
from pathlib import Path

from imbsam.data.sources.raw import PARTS, Part, PartName, Raw, index_labels, listed, part_of
from imbsam.data.sources.walk import beside, visible
from imbsam.errors import DataError

WORDS: dict[PartName, tuple[str, ...]] = {
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def read_lists(path: Path, root: Path | None = None) -> Raw:
    """Read ``*train*.txt`` and, if they exist, ``*val*.txt`` and ``*test*.txt`` beside it.

    A file that is listed twice is read twice, and a note says so. Images that no list names are ignored.

    Args:
        path: The folder of the list files, or the training list itself; then ``train`` in its name is replaced to find
            the others.
        root: The folder that paths in the lists are relative to; by default the folder of the lists.

    Returns:
        The parts; the name of a class is its number.

    Raises:
        DataError: If a part has several lists, a line is malformed, a path leaves the root, or a list gives a file two
            labels.
    """
    lists = _lists_in_folder(path) if path.is_dir() else _lists_beside(path)
    folder = root or (path if path.is_dir() else path.parent)
    files: dict[PartName, list[Path]] = {}
    labels: dict[PartName, list[str]] = {}
    notes: list[str] = []
    for part in PARTS:
        if part in lists:
            files[part], labels[part] = _read_list(lists[part], folder, notes)
            shared = [] if part == "train" else sorted(set(files["train"]).intersection(files[part]))
            if shared:
                first = shared[0].relative_to(folder)
                notes.append(
                    f"{len(shared)} files of {lists[part].name} are in {lists['train'].name} too (first {first})."
                )
    classes, targets = index_labels(labels)
    parts = {part: Part(of, targets[part], [str(file) for file in of]) for part, of in files.items()}
    if not path.is_dir():
        return Raw(path.stem, classes, parts, tuple(notes))
    depth = len(folder.parts)
    images = {path / file.parts[depth] for of in files.values() for file in of} if folder == path else set()
    return Raw(path.resolve().name, classes, parts, (*notes, *beside(path, {*lists.values(), *images})))


def lists_by_part(folder: Path) -> dict[PartName, list[Path]]:
    """Return the text files of a folder whose names say which part they list."""
    lists = [path for path in visible(folder) if path.suffix.lower() == ".txt" and path.is_file()]
    return {part: of for part in PARTS if (of := [path for path in lists if part_of(path.name) == part])}


def _lists_in_folder(folder: Path) -> dict[PartName, Path]:
    found = lists_by_part(folder)
    if "train" not in found:
        raise DataError(f"{folder}: there is no list of the training part, *train*.txt.")
    return _one_each(folder, found)


def _lists_beside(path: Path) -> dict[PartName, Path]:
    name = path.name.lower()
    called = {part: {re.sub("train(ing)?", word, name) for word in words} - {name} for part, words in WORDS.items()}
    others = [other for other in visible(path.parent) if other.is_file()]
    beside = {part: [other for other in others if other.name.lower() in names] for part, names in called.items()}
    return _one_each(path.parent, {"train": [path], **{part: of for part, of in beside.items() if of}})


def _one_each(folder: Path, lists: dict[PartName, list[Path]]) -> dict[PartName, Path]:
    for part, paths in lists.items():
        if len(paths) > 1:
            advice = "Name the training list itself" if part == "train" else "Keep one of them there"
            raise DataError(
                f"{folder}: several lists for the {part} part: {listed([p.name for p in paths])}. {advice}."
            )
    return {part: paths[0] for part, paths in lists.items()}


def _read_list(path: Path, root: Path, notes: list[str]) -> tuple[list[Path], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")  # Names of files may be any bytes.
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a text file ({error}).") from error
    if "\0" in text:
        raise DataError(f"{path}: cannot be read as a text file; save it as UTF-8.")
    files: list[Path] = []
    labels: list[str] = []
    first: dict[Path, tuple[int, str]] = {}
    repeated: list[Path] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not name or not re.fullmatch(r"\d+", label):
            raise DataError(f"{path} line {number}: expected 'relative/path label' with a label from 0; got {line!r}.")
        name = name.strip()
        # By spelling, not by what links point to: image folders are often links to another disk.
        if os.path.isabs(name) or ".." in re.split(r"[/\\]", name):  # noqa: PTH117 (a Path takes ten times as long)
            raise DataError(f"{path} line {number}: the path {name!r} leaves the root {root}. Use paths below it.")
        file, label = root / name, str(int(label))
        line_before, label_before = first.setdefault(file, (number, label))
        if label != label_before:
            raise DataError(
                f"{path} line {number}: {name!r} has the label {label}, but {label_before} in line {line_before}. Keep "
                "one of the lines."
            )
        repeated += [file] if line_before != number else []
        files.append(file)
        labels.append(label)
    if not files:
        raise DataError(f"{path}: the list is empty.")
    if repeated:
        first_one = repeated[0].relative_to(root)
        notes.append(
            f"{path.name} names {len(set(repeated))} files more than once (first {first_one}); each mention counts."
        )
    return files, labels
