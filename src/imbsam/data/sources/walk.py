"""Walk through folders of images that follows links, detects circles, and records files that are not images."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from imbsam.data.formats import known_endings, open_image
from imbsam.data.sources.raw import listed
from imbsam.errors import DataError


def visible(folder: Path) -> list[Path]:
    """List the content of a folder, sorted by name, without hidden files (``.DS_Store``, ``._a.jpg``) and ``__MACOSX``.

    Raises:
        DataError: If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be read ({error.strerror}).") from error
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]


def is_image(path: Path) -> bool:
    """Return whether a file has an image's ending, or begins like an image."""
    return _has_image_ending(path) or _begins_like_image(path)


def beside(folder: Path, used: Collection[Path]) -> tuple[str, ...]:
    """Return a note on files in a folder that are not among ``used``; none if there are none."""
    rest = [f"{path.name}/" if path.is_dir() else path.name for path in visible(folder) if path not in used]
    return (f"not read in {folder}: {listed(rest)}.",) if rest else ()


def by_ending(paths: Sequence[Path]) -> str:
    """Return ``20 .txt, 1 without an ending``, the most frequent first."""
    counts = Counter(path.suffix.lower() or "without an ending" for path in paths)
    return listed([f"{count} {ending}" for ending, count in counts.most_common()])


class Walk:
    """Walk through the folders below a root, with a record of what was found.

    Args:
        root: Folder to start from; everything found is named relative to it.

    Attributes:
        others: Files that are not images.
        circles: Links that lead back to a folder that contains them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.others: list[Path] = []
        self._by_content: list[Path] = []
        self.circles: dict[Path, None] = {}
        self._broken: list[Path] = []
        self._first_by_place: dict[str, Path] = {}
        self._repeated: dict[Path, Path] = {}
        self._skipped: dict[Path, Path] = {}

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder, including linked ones.

        Raises:
            DataError: If a link leads nowhere and is not named like an image, since a class might be lost.
        """
        way, found = self._way_to(folder), []
        for path in visible(folder):
            kind = _kind(path)
            if kind is None and not _has_image_ending(path):
                raise DataError(f"{path}: this link leads nowhere. Repair or remove it.")
            if kind == stat.S_IFDIR and not self._leads_back(path, way):
                found.append(path)
        return found

    def images(self, folder: Path, *, deeper: bool = True) -> Iterator[Path]:
        """Return the images in a folder and below, or only those directly in it, in sorted order.

        A link that is named like an image counts as one, even if it leads nowhere: reading it reports that. A folder
        with several links to it is visited once, since links among folders could go on without end.
        """
        way = self._way_to(folder)
        return self._images(folder, way, deeper, {way[-1]: folder})

    def notes(self) -> tuple[str, ...]:
        """Describe what was left out or decided on the walk, a sentence for each kind."""
        repeated, skipped = (
            [f"{self.name(path)} is {self.name(first)}" for path, first in pairs.items()]
            for pairs in (self._repeated, self._skipped)
        )
        broken, circles = ([self.name(path) for path in paths] for paths in (self._broken, self.circles))
        sentences = (
            ("files that are not images were not read", self._summary(self.others)),
            ("files without an image's ending were read by their content", self._summary(self._by_content)),
            ("links that lead nowhere were left out", listed(broken)),
            ("links that lead back to a folder around them were not followed", listed(circles)),
            ("the same folder was read again under another name", listed(repeated)),
            ("a folder that occurs twice was read once", listed(skipped)),
        )
        return tuple(f"{sentence}: {what}." for sentence, what in sentences if what)

    def name(self, path: Path) -> str:
        """Return the name of a path in notes: relative to the root."""
        return str(path.relative_to(self.root))

    def _images(self, folder: Path, way: tuple[str, ...], deeper: bool, seen: dict[str, Path]) -> Iterator[Path]:
        if deeper:
            self._notice_repeated(folder, way[-1])
        for path in visible(folder):
            kind = _kind(path)
            if kind == stat.S_IFDIR:
                if deeper and not self._leads_back(path, way):
                    place = _place(path, way[-1])
                    first = seen.setdefault(place, path)
                    if first == path:
                        yield from self._images(path, (*way, place), deeper, seen)
                    else:
                        self._skipped[path] = first
            elif _has_image_ending(path) and kind in (stat.S_IFREG, None):
                yield path
            elif kind is None:
                self._broken.append(path)
            elif kind == stat.S_IFREG and _begins_like_image(path):
                self._by_content.append(path)
                yield path
            elif deeper:
                self.others.append(path)

    def _way_to(self, folder: Path) -> tuple[str, ...]:
        """Return the real paths of the folders from the root to this one."""
        steps = folder.relative_to(self.root).parts
        return tuple(os.path.realpath(self.root.joinpath(*steps[:number])) for number in range(len(steps) + 1))

    def _leads_back(self, path: Path, way: tuple[str, ...]) -> bool:
        if not path.is_symlink():
            return False
        target = os.path.realpath(path)
        back = any(Path(place).is_relative_to(target) for place in way)
        if back:
            self.circles[path] = None
        return back

    def _notice_repeated(self, folder: Path, place: str) -> None:
        first = self._first_by_place.setdefault(place, folder)
        if first != folder and not any(above in self._repeated for above in folder.parents):
            self._repeated[folder] = first

    def _summary(self, paths: Sequence[Path]) -> str:
        return f"{by_ending(paths)} (first {self.name(paths[0])})" if paths else ""


def _place(path: Path, above: str) -> str:
    return os.path.realpath(path) if path.is_symlink() else f"{above}{os.sep}{path.name}"


def _kind(path: Path) -> int | None:
    """Return the type of what a path leads to; None if it leads nowhere."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except PermissionError as error:
        raise DataError(f"{path}: this cannot be read ({error.strerror}).") from error
    except OSError:
        return None


@cache
def _image_endings() -> frozenset[str]:
    return known_endings()


def _has_image_ending(path: Path) -> bool:
    return path.suffix.lower() in _image_endings()


def _begins_like_image(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That it is large is told when it is decoded.
            with open_image(path):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # A file of anything leads Pillow into anything.
        return False
