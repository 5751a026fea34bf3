"""Readers of data, one for each kind of source, and the rule that tells the kinds apart."""

import glob
from collections.abc import Sequence
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING

from imbsam.data.sources.cifar import is_cifar_folder, read_cifar
from imbsam.data.sources.digits import read_digits
from imbsam.data.sources.endings import is_table, is_text_table
from imbsam.data.sources.folders import read_image_files, read_image_folder
from imbsam.data.sources.idx import is_idx_folder, read_idx
from imbsam.data.sources.lists import lists_by_part, read_lists
from imbsam.data.sources.part_folders import holds_images
from imbsam.data.sources.partitions import divided, files_below
from imbsam.data.sources.raw import Raw, Request, belonging, by_part, listed, part_of
from imbsam.data.sources.walk import beside, is_image, visible
from imbsam.errors import DataError, OptionError

if TYPE_CHECKING:
    from imbsam.data.sources.table_set import TableSet

DIGITS = "digits"

UNDERSTOOD = """Understood are:
  digits                          scikit-learn's bundled images, unless something here has this name
  FOLDER                          <class>/*.jpg, or train/<class>/*.jpg with optional val/ and test/
  FOLDER or FILES.parquet         images (image, label) or a table; train, validation, test by file name
  FOLDER or FILE.csv, .tsv        a table, also .gz, .bz2, .xz, .zst, .zip; train, validation, test by file name
  FILE.xlsx                       a table, the first sheet
  FOLDER                          tables in folders named column=value
  FILE.npz                        a table, arrays X (N, F) and y (N,)
  FOLDER or FILE.tar.gz           CIFAR-10 or CIFAR-100 python archive
  FOLDER                          MNIST, Fashion-MNIST: train-images-idx3-ubyte[.gz] and its three fellows
  FOLDER or LIST.txt[@IMAGES]     list files with a 'relative/path label' a line, paths relative to IMAGES
Several files are given as a,b or by a pattern such as 'train-*.parquet'."""


def read(source: str, request: Request) -> Raw:
    """Detect the kind of a source, and read it.

    Args:
        source: ``"digits"``, a path, paths joined by commas, or a pattern.
        request: Options of the reader.

    Returns:
        The parts that were found.

    Raises:
        DataError: If the source does not exist, its kind or the role of a file or folder is unclear, or the reader
            finds an error in it.
        OptionError: If a target column is given for a source that has no columns.
    """
    if is_bundled(source):
        _without_target(source, request)
        return read_digits()
    listing, at, images = source.partition("@")
    if at and exists(listing) and not exists(source):  # noqa: PTH110 (a Path raises where names joined are too long)
        _without_target(source, request)
        return read_lists(Path(listing), _existing(images))
    paths = _paths(source)
    if len(paths) == 1 and paths[0].is_dir():
        raw = _read_folder(paths[0], request)
        return raw.noting("the folder digits is used, not scikit-learn's digits.") if source == DIGITS else raw
    return _read_files(paths, source, request)


def is_bundled(source: str) -> bool:
    """Return whether a source is scikit-learn's digits; a file or folder of that name has precedence."""
    return source == DIGITS and not Path(source).exists()


def _read_folder(folder: Path, request: Request) -> Raw:
    entries = visible(folder)
    if not entries:
        raise DataError(f"{folder}: the folder is empty.")
    for inner in (folder, folder / "data"):
        files = visible(inner) if inner.is_dir() else []
        if parquet := belonging([path for path in files if path.suffix.lower() == ".parquet"]):
            outside = beside(folder, [inner]) if inner != folder else ()
            return _read_parquet(parquet, request).noting(*beside(inner, parquet), *outside)
    if divided(folder):
        files = _divided(folder)
        return _read_tables(files, request, root=folder).noting(*beside(folder, [p for p in entries if p.is_dir()]))
    tables = [path for path in entries if is_text_table(path) or path.suffix.lower() == ".xlsx"]
    if tables and not _means_images(folder, entries, request):
        wanted = belonging(tables)
        if len(wanted) > 1 and len(by_part(wanted)) == 1:
            names = ", ".join(path.name for path in wanted)
            raise DataError(
                f"{folder}: several tables: {names}. Name one of them, or call them train.csv and test.csv."
            )
        return _read_tables(wanted, request).noting(*beside(folder, wanted))
    _without_target(str(folder), request)
    if is_cifar_folder(folder):
        return read_cifar(folder)
    if is_idx_folder(folder):
        return read_idx(folder)
    if "train" in lists_by_part(folder):
        return read_lists(folder)
    if holds_images(folder):
        return read_image_folder(folder, request)
    cifar = [path for path in entries if path.is_dir() and is_cifar_folder(path)]
    if len(cifar) > 1:
        raise DataError(f"{folder}: several CIFAR archives: {listed([path.name for path in cifar])}. Name one of them.")
    if cifar:
        return read_cifar(cifar[0]).noting(*beside(folder, cifar))
    raise DataError(f"{folder}: found nothing in this folder that can be read.\n{UNDERSTOOD}")


def _divided(folder: Path) -> list[Path]:
    """Return the tables of a folder that is partitioned by columns."""
    files = [path for path in files_below(folder) if path.parent != folder]
    if odd := [str(path.relative_to(folder)) for path in files if not is_table(path)]:
        raise DataError(
            f"{folder}: a table partitioned by columns, with files that are not tables: {listed(odd)}. Remove them."
        )
    if not files:
        raise DataError(f"{folder}: its folders are named column=value, but contain no file.")
    return files


def _means_images(folder: Path, entries: Sequence[Path], request: Request) -> bool:
    """Return whether a folder with a table is one of images: it has images, and no column is given."""
    if request.target is not None or not request.labels_needed:
        return request.target is None and holds_images(folder)
    full = [path for path in entries if path.is_dir() and holds_images(path)]
    return len(full) > 1 or any(part_of(path.name) == "train" for path in full)


def _read_files(paths: list[Path], source: str, request: Request) -> Raw:
    if all(path.suffix.lower() == ".parquet" for path in paths):
        return _read_parquet(paths, request)
    if all(is_table(path) or (path.suffix.lower() == ".txt" and request.target is not None) for path in paths):
        return _read_tables(paths, request)
    if len(paths) == 1 and paths[0].name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        _without_target(source, request)
        return read_cifar(paths[0])
    if len(paths) == 1 and paths[0].suffix.lower() == ".txt":
        return read_lists(paths[0])
    if all(path.is_file() and is_image(path) for path in paths):
        _without_target(source, request)
        return read_image_files(paths)
    clash = " It has precedence over scikit-learn's digits: rename it to use those." if source == DIGITS else ""
    raise DataError(f"{source}: the kind of this source is unclear.{clash}\n{UNDERSTOOD}")


def _read_tables(paths: list[Path], request: Request, root: Path | None = None) -> Raw:
    # With it come pandas and pyarrow, for which images need not wait.
    from imbsam.data.sources.tables import read_tables

    return read_tables(paths, request, root=root)


def _read_parquet(paths: list[Path], request: Request) -> Raw:
    from imbsam.data.sources.parquet import image_column, parquet_schema, read_image_parquet

    if image_column(parquet_schema(paths[0])) is not None:
        return read_image_parquet(paths, request)
    return _read_tables(paths, request)


def _paths(source: str) -> list[Path]:
    if exists(Path(source).expanduser()):  # noqa: PTH110
        return [Path(source).expanduser()]
    found: list[Path] = []
    for piece in source.split(","):
        matches = sorted(map(Path, glob.glob(piece))) if glob.has_magic(piece) else []  # noqa: PTH207
        if glob.has_magic(piece) and not matches and not exists(Path(piece)):  # noqa: PTH110
            raise DataError(f"{piece!r}: no file matches this pattern.")
        found += matches or [_existing(piece)]
    return found


def open_tables(source: str, request: Request) -> "TableSet | None":
    """Open a source that is tables: one file, several, a folder of them, or a folder partitioned by columns.

    Args:
        source: Source, as for :func:`read`; ``.txt`` counts as a table.
        request: Options of the reader, with the format of text tables.

    Returns:
        The files as one table; ``None`` if the source is anything else.

    Raises:
        DataError: If the source does not exist, or cannot be read.
    """
    from imbsam.data.sources.parquet import image_column, parquet_schema
    from imbsam.data.sources.table_set import TableSet

    paths, root = _paths(source), None
    if len(paths) == 1 and paths[0].is_dir():
        root = paths[0] if divided(paths[0]) else None
        paths = _divided(root) if root else [path for path in visible(paths[0]) if path.is_file() and is_table(path)]
        if not root and holds_images(Path(source).expanduser()):
            return None
    if not paths or not all(is_table(path) or path.suffix.lower() == ".txt" for path in paths):
        return None
    if image_column(parquet_schema(paths[0])) if paths[0].suffix.lower() == ".parquet" else None:
        return None
    return TableSet.open(paths, request.dialect, skip_bad=request.skip_bad, root=root)


def _existing(text: str) -> Path:
    path = Path(text.strip()).expanduser()
    if not exists(path):  # noqa: PTH110
        raise DataError(f"{text.strip()!r}: there is no such file or folder.\n{UNDERSTOOD}")
    return path


def _without_target(source: str, request: Request) -> None:
    if request.target is not None and request.labels_needed:
        raise OptionError(f"target={request.target!r} names a column, but {source} has none. Leave the option out.")
