"""Reader of the CIFAR-10 and CIFAR-100 python archives, with an unpickler that can build only arrays."""

import io
import pickle
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from imbsam.data.sources.raw import Part, PartName, Raw, listed
from imbsam.data.sources.walk import visible
from imbsam.errors import DataError

CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10_TEST, CIFAR10_META = "test_batch", "batches.meta"
CIFAR100_TRAIN, CIFAR100_TEST, CIFAR100_META = "train", "test", "meta"
KNOWN = frozenset((*CIFAR10_TRAIN, CIFAR10_TEST, CIFAR10_META, CIFAR100_TRAIN, CIFAR100_TEST, CIFAR100_META))
WITHOUT_DATA = frozenset(("readme.html", "file.txt~"))
"""Other files in the archives."""
PIXELS = 3 * 32 * 32
LARGEST = 2**28
"""Largest size of one file in bytes; CIFAR-100's largest has 155 million."""

Record = dict[str, object]


def is_cifar_folder(folder: Path) -> bool:
    """Return whether the folder contains the files of an unpacked archive."""
    names = {path.name for path in visible(folder) if path.is_file()}
    return CIFAR10_TRAIN[0] in names or {CIFAR100_TRAIN, CIFAR100_TEST, CIFAR100_META} <= names


def read_cifar(path: Path) -> Raw:
    """Read an unpacked folder or a ``.tar.gz``, without unpacking it to disk.

    Args:
        path: Folder or archive.

    Returns:
        Training and test part, uint8 ``(N, 3, 32, 32)``; fine labels for CIFAR-100.

    Raises:
        DataError: If a file is missing or damaged, or contains anything but arrays, numbers, text and containers.
    """
    files, others = _folder_files(path) if path.is_dir() else _archive_files(path)
    if CIFAR10_TRAIN[0] in files:
        name, label_key, meta_key = "cifar10", "labels", "label_names"
        train, test, meta = CIFAR10_TRAIN, CIFAR10_TEST, CIFAR10_META
    else:
        name, label_key, meta_key = "cifar100", "fine_labels", "fine_label_names"
        train, test, meta = (CIFAR100_TRAIN,), CIFAR100_TEST, CIFAR100_META
    for needed in (*train, test, meta):
        if needed not in files:
            raise DataError(f"{path}: {needed} is missing; the CIFAR python archive is incomplete. Download it again.")
    classes = _class_names(path, _unpickled(path, meta, files[meta]), meta, meta_key)
    of: dict[PartName, tuple[str, ...]] = {"train": train, "test": (test,)}
    parts = {
        part: _part(path, [(file, _unpickled(path, file, files[file])) for file in names], label_key, len(classes))
        for part, names in of.items()
    }
    others += sorted(files.keys() - {*train, test, meta})
    return Raw(name, classes, parts, (f"not read in {path}: {listed(others)}.",) if others else ())


def _folder_files(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the known files, and the names of others."""
    entries = visible(folder)
    files = {path.name: path.read_bytes() for path in entries if path.name in KNOWN and path.is_file()}
    return files, [path.name for path in entries if path.name not in files.keys() | WITHOUT_DATA]


def _archive_files(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the known files, and the names of others."""
    files: dict[str, bytes] = {}
    others: list[str] = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in files:
                    raise DataError(f"{path}: holds {name} several times; this is not a CIFAR archive.")
                if member.size > LARGEST and name in KNOWN:
                    raise DataError(f"{path}: {name} holds more than {LARGEST} bytes; this is not a CIFAR archive.")
                stream = archive.extractfile(member) if member.isfile() and name in KNOWN else None
                if stream is not None:
                    files[name] = stream.read()
                elif not member.isdir() and name not in WITHOUT_DATA:
                    others.append(member.name)
    except DataError:
        raise
    except Exception as error:  # A damaged archive may raise anything, zlib.error among it.
        raise DataError(f"{path}: cannot be read as a tar archive ({error}). Download it again.") from error
    return files, others


def _class_names(path: Path, meta: Record, file: str, key: str) -> tuple[str, ...]:
    names = meta.get(key)
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: {file} holds no {key}.")
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _part(path: Path, records: Iterable[tuple[str, Record]], label_key: str, classes: int) -> Part:
    pixels, targets, names = [], [], []
    for file, record in records:
        images, labels = record.get("data"), record.get(label_key)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
            raise DataError(f"{path}: {file} holds no uint8 'data' of {PIXELS} values a row.")
        if not isinstance(labels, list) or len(labels) != len(images):
            raise DataError(f"{path}: {file} holds {len(images)} images but not as many {label_key!r}.")
        for row, label in enumerate(labels, start=1):
            if not isinstance(label, int) or not 0 <= label < classes:
                raise DataError(f"{path}: {file} row {row}: label {label!r} is outside the {classes} classes.")
        pixels.append(torch.from_numpy(np.ascontiguousarray(images)).view(-1, 3, 32, 32))
        targets += labels
        names += [f"{file} row {row}" for row in range(1, len(labels) + 1)]
    return Part(torch.cat(pixels), torch.tensor(targets), names)


def _unpickled(path: Path, file: str, data: bytes) -> Record:
    try:
        record = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{path}: {file} {error}") from error
    except Exception as error:  # A damaged pickle may raise anything.
        raise DataError(f"{path}: {file} is damaged ({type(error).__name__}: {error}). Download it again.") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: {file} does not hold a dictionary.")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in record.items()}


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Replace ``codecs.encode``, by which Python 3 writes bytes into old pickles."""
    return text.encode("latin1")


def _reconstruct(subtype: type, shape: tuple[int, ...], dtype: bytes) -> np.ndarray:
    """Replace numpy's function of this name; the array gets its shape and values from its state."""
    return np.ndarray((0,), np.uint8)


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that allows the few names that arrays need; everything a pickle can call passes ``find_class``."""

    allowed: dict[tuple[str, str], Callable[..., object]] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): object,  # Only ever handed to _reconstruct.
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Refuse every name that arrays do not need."""
        try:
            return self.allowed[module, name]
        except KeyError:
            raise DataError(
                f"asks for {module}.{name}, which no CIFAR file needs; it was not executed. Do not trust this file."
            ) from None
