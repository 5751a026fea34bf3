"""Reader of image folders: a folder for each class, with or without folders for the parts above them."""

from collections.abc import Sequence
from pathlib import Path

from imbsam.data.sources.part_folders import folders_of_parts
from imbsam.data.sources.raw import PARTS, Part, PartName, Raw, Request, index_labels, listed, unlabelled
from imbsam.data.sources.walk import Walk, beside, by_ending
from imbsam.errors import DataError
from imbsam.storage.texts import readable

_LAYOUT = "Expected <class>/*.jpg, or train/<class>/*.jpg with optional val/<class>/ and test/<class>/."


def read_image_folder(root: Path, request: Request) -> Raw:
    """Read ``train/<class>/*.jpg`` with optional ``val`` and ``test`` beside it, or ``<class>/*.jpg``.

    Files may be deeper inside their class folder, and links are followed. Images without class folders are unlabelled.
    Notes say what was not read, except hidden files.

    Args:
        root: The folder.
        request: Options of the reader; ``labels_needed`` decides whether class folders are required.

    Returns:
        The parts, with files in sorted order and classes sorted by folder name.

    Raises:
        DataError: If class folders are required and missing, a class has no image, or it is unclear whether a folder is
            a class or a part.
    """
    walk = Walk(root)
    roots, notes = folders_of_parts(root, walk.folders(root))
    if roots:
        notes += beside(root, {*walk.circles, *(folder for of in roots.values() for folder in of)})
    files: dict[PartName, list[Path]] = {}
    labels: dict[PartName, list[str]] = {}
    for part in PARTS:
        if of := roots.get(part) if roots else [root] if part == "train" else None:
            files[part], names, more = _images(walk, of, part == "train" and request.labels_needed)
            labels |= {part: names} if names else {}
            notes += tuple(more)
    classes, targets = index_labels(labels)
    parts = {
        part: Part(of, targets.get(part, unlabelled(len(of))), [str(path) for path in of]) for part, of in files.items()
    }
    return Raw(root.resolve().name, classes, parts, (*notes, *walk.notes()))


def read_image_files(paths: Sequence[Path]) -> Raw:
    """Read single images, unlabelled."""
    part = Part(list(paths), unlabelled(len(paths)), [str(path) for path in paths])
    return Raw(paths[0].resolve().name, (), {"train": part})


def _images(walk: Walk, folders: Sequence[Path], labels_needed: bool) -> tuple[list[Path], list[str], list[str]]:
    """Return the images of a part, their classes (none without class folders), and notes."""
    loose = [path for folder in folders for path in walk.images(folder, deeper=False)]
    of_class = {path: list(walk.images(path)) for folder in folders for path in walk.folders(folder)}
    files = [path for images in of_class.values() for path in images]
    is_part = walk.root not in folders
    if loose and (files or labels_needed):
        class_after_all = f" If {folders[0].name} is a class, give it another name." if is_part else ""
        raise DataError(
            f"{folders[0]}: {len(loose)} images lie outside any class folder, first {loose[0].name}. {_LAYOUT}"
            f"{class_after_all}"
        )
    if not files and not loose:
        raise DataError(f"{folders[0]}: found no class folder with images. {_LAYOUT}")
    empty = [path for path, images in of_class.items() if not images]
    for path in empty if files else ():
        _check_no_class_vanishes(path, walk.others, labels_needed)
    used = {*of_class, *loose, *walk.circles}
    notes = [note for folder in folders for note in beside(folder, used)]
    if empty:
        notes.append(f"folders without an image: {listed([walk.name(path) for path in empty])}.")
    if is_part and not files:
        notes.append(f"{folders[0].name} has no class folders, so its images are unlabelled.")
    names: dict[str, str] = {}
    for path in of_class:
        # One is not UTF-8, and another is called as it is shown.
        if names.setdefault(readable(path.name), path.name) != path.name:
            raise DataError(f"two folders of classes would both be {readable(path.name)!r}. Rename one of them.")
    labels = [readable(path.name) for path, images in of_class.items() for _ in images]
    return files or loose, labels, notes


def _check_no_class_vanishes(folder: Path, others: Sequence[Path], labels_needed: bool) -> None:
    lying = [path for path in others if folder in path.parents]
    if lying:
        raise DataError(
            f"{folder}: no file in it is an image that can be read ({by_ending(lying)}). Convert them to JPEG or "
            "PNG, or remove the folder."
        )
    if labels_needed:
        raise DataError(f"{folder}: this class has no image. Add some, or remove the folder.")
