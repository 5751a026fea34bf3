"""Endings of file names: text tables, compressed or not, and tables of other kinds."""

from pathlib import Path

from imbsam.data.sources.encoded import members

SEPARATED_BY = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|", ".data": None, ".dat": None}
"""Endings of text tables, and the usual separator of each."""

PACKED = (".gz", ".bz2", ".zst", ".xz", ".zip")
TEXT_ENDINGS = tuple(ending + packed for ending in SEPARATED_BY for packed in ("", *PACKED))
OTHER_ENDINGS = (".parquet", ".npz", ".xlsx")


def is_text_table(path: Path) -> bool:
    """Return whether a file is a text table, compressed or not, by its ending, or a zip archive of such files alone."""
    if path.name.lower().endswith(TEXT_ENDINGS):
        return True
    names = members(path) if path.suffix.lower() == ".zip" else []
    return bool(names) and all(Path(name).suffix.lower() in SEPARATED_BY for name in names)


def is_table(path: Path) -> bool:
    """Return whether the file's ending is that of a table; ``.txt`` is not, since it may be anything."""
    return is_text_table(path) or path.suffix.lower() in OTHER_ENDINGS
