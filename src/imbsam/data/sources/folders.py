"""Folders of image files: a folder for each class, with or without folders for the parts above them."""

from pathlib import Path

from imbsam.data.sources.raw import (
    PARTS,
    Part,
    PartName,
    Raw,
    Request,
    by_part,
    index_labels,
    part_of,
    unlabelled,
)
from imbsam.errors import DataError

IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
)


def is_image(path: Path) -> bool:
    """Whether the file's ending is an image's."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def read_image_folder(root: Path, request: Request) -> Raw:
    """Read ``train/<class>/*.jpg`` with optional ``val`` and ``test`` beside it, or ``<class>/*.jpg``.

    Files may lie deeper inside their class folder. A folder of images alone is unlabelled.

    Args:
        root: The folder.
        request: ``labels_needed`` decides whether class folders must be there.

    Returns:
        The parts, files in sorted order, classes sorted by folder name.

    Raises:
        DataError: If no image is found, or class folders are needed and missing.
    """
    folders = [path for path in _visible(root) if path.is_dir()]
    flat = [path for path in _visible(root) if path.is_file() and is_image(path)]
    if not any(part_of(path.name) == "train" for path in folders):
        roots: dict[PartName, list[Path]] = {"train": [root]}
    else:
        roots = by_part([path for path in folders if part_of(path.name) is not None])
        flat = []
    if flat and not request.labels_needed and not any(_images_below(folder) for folder in folders):
        return _unlabelled(root, flat)
    if flat:
        raise DataError(f"{root}: {len(flat)} images lie outside any class folder, first {flat[0].name}. {_LAYOUT}")
    files: dict[PartName, list[Path]] = {}
    labels: dict[PartName, list[str]] = {}
    empty: list[str] = []
    for part in PARTS:
        for folder in (path for top in roots.get(part, []) for path in _visible(top) if path.is_dir()):
            found = _images_below(folder)
            files.setdefault(part, []).extend(found)
            labels.setdefault(part, []).extend([folder.name] * len(found))
            empty += [] if found else [str(folder.relative_to(root))]
        if part in roots and not files.get(part):
            only = [path for top in roots[part] for path in _images_below(top)]
            if only and not request.labels_needed:
                return _unlabelled(root, only)
            raise DataError(f"{roots[part][0]}: found no class folder with images. {_LAYOUT}")
    classes, targets = index_labels(labels)
    parts = {part: Part(of, targets[part], [str(path) for path in of]) for part, of in files.items()}
    notes = [f"folder {name} holds no image and was ignored." for name in empty]
    return Raw(root.resolve().name, classes, parts, tuple(notes))


def read_image_file(path: Path) -> Raw:
    """Read a single image, unlabelled."""
    return _unlabelled(path, [path])


_LAYOUT = "Expected <class>/*.jpg, or train/<class>/*.jpg with optional val/<class>/ and test/<class>/."


def _unlabelled(root: Path, files: list[Path]) -> Raw:
    return Raw(root.resolve().name, (), {"train": Part(files, unlabelled(len(files)), [str(path) for path in files])})


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())
