"""Rule that decides whether the folders in a folder are parts of a data set or classes, by their content."""

from collections.abc import Sequence
from pathlib import Path

from imbsam.data.sources.raw import PartName, by_part, listed, part_of
from imbsam.data.sources.walk import Walk, is_image, visible
from imbsam.errors import DataError


def folders_of_parts(root: Path, folders: Sequence[Path]) -> tuple[dict[PartName, list[Path]], tuple[str, ...]]:
    """Decide which folders are parts and which are classes; folders without an image do not count.

    Folders are parts if all names are those of parts. If only some are (``bus``, ``car``, ``train``), all are classes,
    unless ``train`` has class folders and each folder beside it has none or is another part.

    Args:
        root: Folder that contains the folders, for messages.
        folders: The folders.

    Returns:
        The folders of each part, none if they are classes; and a note if the decision might surprise.

    Raises:
        DataError: If names and contents contradict each other, or there are parts but none to train on.
    """
    if not any(part_of(folder.name) for folder in folders):
        return {}, ()
    full = [folder for folder in folders if holds_images(folder)]
    named = [folder for folder in full if part_of(folder.name)]
    others = [folder for folder in full if folder not in named]
    parts = {part_of(folder.name) for folder in named}
    if named and not others and "train" not in parts:
        raise DataError(
            f"{root}: {_names(named)} would be parts of a data set, but there is no folder train beside them. Add it, "
            "or name one of them as the data; if they are classes, give them other names."
        )
    if named and not others and (len(parts) > 1 or len(named) == 1):
        return by_part(named), ()
    nested = [folder for folder in named if _holds_class_folders(folder)]
    if not nested:
        return {}, ()
    train = [folder for folder in nested if part_of(folder.name) == "train"]
    alike = all(_holds_class_folders(folder) for folder in others)
    if train and (len(parts) > 1 or (train[0].name.isalpha() and not alike)):  # train itself, not freight-train
        raise DataError(
            f"{root}: {_names(named)} could be parts of a data set or classes beside {_names(others)}. For parts, put "
            f"{_names(others)} elsewhere; for classes, give {_names(named)} other names."
        )
    return {}, (f"read as classes like the folders beside them, not as parts of the data: {_names(nested)}.",)


def holds_images(folder: Path) -> bool:
    """Return whether the folder contains an image, also further below."""
    return next(Walk(folder).images(folder), None) is not None


def _holds_class_folders(folder: Path) -> bool:
    """Return whether all images of the folder are in folders of their own."""
    return holds_images(folder) and not any(path.is_file() and is_image(path) for path in visible(folder))


def _names(folders: Sequence[Path]) -> str:
    return listed([folder.name for folder in folders])
