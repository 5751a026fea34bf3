"""Standard input as a source: ``-``."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imbsam.data.sources.walk import is_image
from imbsam.errors import DataError

BEGINNINGS = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"\x28\xb5\x2f\xfd": ".csv.zst", b"BZh": ".csv.bz2"}
"""First bytes of a file, and the ending of its kind; any other file is a text table."""


@contextmanager
def path_of(source: str) -> Iterator[str]:
    """Return a source as a path: ``-`` stands for standard input, which is kept in a file meanwhile.

    Args:
        source: Source that the user gave; a file with the name ``-`` is ``./-``.

    Raises:
        DataError: If standard input is empty.
    """
    if source != "-":
        yield source
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("- is standard input, but no data arrive there: use imbsam ... - < FILE.")
    with tempfile.TemporaryDirectory(prefix="imbsam-") as folder:
        kept = Path(folder) / "stdin"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with kept.open("rb") as file:
            beginning = file.read(8)
        if not beginning:
            raise DataError("standard input is empty.")
        ending = next((end for start, end in BEGINNINGS.items() if beginning.startswith(start)), ".csv")
        yield str(kept if is_image(kept) else kept.rename(kept.with_name(f"stdin{ending}")))
