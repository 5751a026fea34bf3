"""Text files on disk: compressed or not, in any encoding."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from imbsam.data.sources.raw import listed
from imbsam.errors import DataError

_CHUNK = 1 << 20
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_TRIED = ("utf-8", "cp1252", "latin-1")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")


@dataclass(frozen=True)
class Encoded:
    """Text file with an encoding in which all of it can be read.

    Args:
        path: The file.
        encoding: Python's name of the encoding.
        quoted: Whether a quote occurs anywhere in it.
    """

    path: Path
    encoding: str
    quoted: bool

    def chunks(self) -> Iterator[bytes]:
        """Yield the text as UTF-8 without a byte-order mark, in chunks."""
        return _utf8(self.path, self.encoding)


def find_encoding(path: Path, asked: str | None, notes: list[str]) -> Encoded:
    """Find an encoding in which the whole file can be read.

    It is decided by a byte-order mark or the zeros of UTF-16; else UTF-8 is tried, and then cp1252 and latin-1.

    Args:
        path: The file, compressed or not.
        asked: Encoding to use.
        notes: List to which a note is added if the encoding is not UTF-8.

    Raises:
        DataError: If the file is empty, not a text, or not in the encoding given.
    """
    with unpacked(path) as file:
        head = file.read(4096)
    if not head:
        raise DataError(f"{path}: the file is empty.")
    marked = asked or _marked(head)
    try:
        found = _checked(path, marked or _TRIED[0])
    except UnicodeError as error:
        if marked:
            raise DataError(
                f"{path}: cannot be read as {marked} ({_place(error)}). Name its encoding by --encoding."
            ) from error
        _not_damaged(path, error)
        found = _legacy(path)
    if asked is None and found.encoding != "utf-8":
        notes.append(
            f"{path.name}: read as {found.encoding}, not UTF-8; if letters come out wrong, name the encoding "
            "(--encoding)."
        )
    return found


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its ending says that it is compressed.

    Raises:
        DataError: If the file cannot be opened or is damaged, also later while it is read.
    """
    try:
        with _open(path) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Is the file complete?") from error


def members(path: Path) -> list[str]:
    """Return the files in a zip archive, without those that an operating system adds; none if it is not an archive."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    return [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))]


def _open(path: Path) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.open(path))
        case ".bz2":
            return bz2.open(path)
        case ".xz":
            return lzma.open(path)
        case ".zst":
            import pyarrow as pa

            return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
        case ".zip":
            return _open_member(path)
    return path.open("rb")


def _open_member(path: Path) -> IO[bytes]:
    names = members(path)
    if len(names) != 1:
        raise DataError(
            f"{path}: the archive holds {len(names)} files ({listed(names) or 'none'}), but a table needs exactly one. "
            "Unpack it."
        )
    return zipfile.ZipFile(path).open(names[0])


def _marked(head: bytes) -> str | None:
    """Return the encoding that the first bytes show: by a byte-order mark, or by zeros at every other place."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > max(10 * min(even, odd), len(head) // 8):
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _checked(path: Path, encoding: str, forbidden: re.Pattern[str] = re.compile("\0")) -> Encoded:
    quoted = False
    for chunk in _utf8(path, encoding):
        quoted = quoted or b'"' in chunk
        if forbidden.search(chunk.decode()):
            raise DataError(
                f"{path}: this is not a text: it contains control characters. Is it compressed, or a spreadsheet? If "
                "it is "
                "text, name its encoding by --encoding."
            )
    return Encoded(path, encoding, quoted)


def _legacy(path: Path) -> Encoded:
    try:
        return _checked(path, _TRIED[1], _CONTROL)
    except UnicodeError:
        return _checked(path, _TRIED[2], _CONTROL)


def _not_damaged(path: Path, error: UnicodeError) -> None:
    """Raise an error if most of what is beyond ASCII is valid UTF-8: the file is then damaged."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    good = bad = 0
    with unpacked(path) as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            beyond = [mark for mark in decoder.decode(chunk) if not mark.isascii()]
            bad += beyond.count("\ufffd")
            good += len(beyond)
    if good - bad > bad:
        raise DataError(
            f"{path}: most of it is UTF-8, but not all of it ({_place(error)}). Repair the file, or name the encoding "
            "by --encoding."
        ) from error


def _place(error: UnicodeError) -> str:
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error)


def _utf8(path: Path, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    read, first = 0, True
    with unpacked(path) as file:
        while True:
            chunk = file.read(_CHUNK)
            read += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                error.reason = f"byte {read - len(error.object) + error.start + 1}: {error.reason}"
                raise
            text, first = (text.removeprefix("\ufeff") if first else text), first and not text
            yield text.encode()
            if not chunk:
                return
