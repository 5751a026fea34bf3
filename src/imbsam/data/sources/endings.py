"""What the ending of a file's name says: a text table, packed or not, or a table of another kind."""

from pathlib import Path

from imbsam.data.sources.encoded import members

SEPARATED_BY = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|", ".data": None, ".dat": None}
"""The endings of text tables, and the separator that each speaks of."""

PACKED = (".gz", ".bz2", ".zst", ".xz", ".zip")
TEXT_ENDINGS = tuple(ending + packed for ending in SEPARATED_BY for packed in ("", *PACKED))
OTHER_ENDINGS = (".parquet", ".npz", ".xlsx")


def is_text_table(path: Path) -> bool:
    """Whether the file's ending is that of a text table, packed or not; or it is a zip archive of such files alone."""
    if path.name.lower().endswith(TEXT_ENDINGS):
        return True
    names = members(path) if path.suffix.lower() == ".zip" else []
    return bool(names) and all(Path(name).suffix.lower() in SEPARATED_BY for name in names)


def is_table(path: Path) -> bool:
    """Whether the file's ending is that of a table; ``.txt`` is not, which may be anything."""
    return is_text_table(path) or path.suffix.lower() in OTHER_ENDINGS
