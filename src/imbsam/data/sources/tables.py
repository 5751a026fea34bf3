"""Tables: CSV, TSV, Parquet and npz, with one column for the class."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from torch import Tensor

from imbsam.data.sources.raw import PARTS, Part, PartName, Raw, Request, by_part, index_labels, listed, unlabelled
from imbsam.errors import DataError

TEXT_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def is_text_table(path: Path) -> bool:
    """Whether the file's ending is that of a CSV or TSV file."""
    return path.name.lower().endswith(TEXT_ENDINGS)


def read_tables(paths: Sequence[Path], request: Request) -> Raw:
    """Read one or several files; where some names say ``train``, the names divide them into parts.

    Args:
        paths: The files.
        request: ``target`` names the class column; an ``.npz`` has it in its array ``y``.

    Returns:
        The parts as frames without the class column; rows are counted from 1, the header left out.

    Raises:
        DataError: If a file cannot be read, the class column is missing or has empty cells, or the files of one data
            set have different columns.
    """
    target = request.target or ("y" if all(path.suffix == ".npz" for path in paths) else None)
    frames: dict[PartName, pd.DataFrame] = {}
    where: dict[PartName, list[str]] = {}
    labels: dict[PartName, list[str]] = {}
    notes: list[str] = []
    groups = by_part(paths)
    for part in PARTS:
        for path in groups.get(part, []):
            frame, several = read_frame(path, notes), len(paths) > 1
            if target not in frame.columns and request.labels_needed and part == "train":
                raise DataError(_no_target(path, frame, target))
            texts: list[str | None] = [None] * len(frame)
            if target is not None and target in frame.columns:
                frame, texts = _split_target(path, frame, target, request, notes)
            columns = next(iter(frames.values())).columns if frames else frame.columns
            _same_columns(path, frame, columns)
            frames[part] = pd.concat([frames[part], frame[columns]]) if part in frames else frame[columns]
            rows = [f"{path.name} row {row + 1}" if several else str(row + 1) for row in frame.index]
            where.setdefault(part, []).extend(rows)
            labels.setdefault(part, []).extend(text for text in texts if text is not None)
    classes, targets = index_labels(labels)
    parts = {part: _part(part, frames[part], targets[part], where[part]) for part in frames}
    name = paths[0].name.split(".")[0] if len(paths) == 1 else paths[0].resolve().parent.name
    return Raw(name, classes, parts, tuple(notes), target)


def value_text(value: object) -> str:
    """How a category or class is called: whole numbers without a fraction, so that 1 and 1.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _part(name: PartName, frame: pd.DataFrame, targets: Tensor, names: list[str]) -> Part:
    if len(targets) not in (0, len(frame)):
        raise DataError(f"only some files of the {name} part have the target column. Add it, or leave them out.")
    return Part(frame, targets if len(targets) else unlabelled(len(frame)), names)


def read_frame(path: Path, notes: list[str]) -> pd.DataFrame:
    """Read a file whole.

    Args:
        path: CSV, TSV, Parquet or npz.
        notes: What was decided in reading it is added here.

    Raises:
        DataError: If it cannot be read, is empty, or has two columns of one name.
    """
    return _checked(path, lambda: _read(path, notes))


def read_blocks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read a file some rows at a time, so that one larger than the memory can be gone through.

    Args:
        path: CSV, TSV, Parquet, or npz, which is read whole.
        rows: Of a block, at most.

    Yields:
        Frames, their index the row's number from 0.

    Raises:
        DataError: As :func:`read_frame`.
    """
    blocks = iter(_blocks(path, rows))
    seen = 0
    while True:
        try:
            frame = _checked(path, lambda: next(blocks))
        except StopIteration:
            return
        frame.index = pd.RangeIndex(seen, seen + len(frame))
        seen += len(frame)
        yield frame


def _blocks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            yield from (batch.to_pandas() for batch in file.iter_batches(rows))
    elif path.suffix == ".npz":
        frame = _read_npz(path)
        yield from (frame.iloc[start : start + rows] for start in range(0, len(frame), rows))
    else:
        separator = "\t" if ".tsv" in path.name.lower() else ","
        header = pd.read_csv(path, sep=separator, nrows=0)
        if len(header.columns) == 1 and ";" in str(header.columns[0]):
            separator = ";"
        yield from pd.read_csv(path, sep=separator, chunksize=rows, low_memory=False)


def _checked(path: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    try:
        frame = read()
    except StopIteration:
        raise
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: the file is empty.") from error
    except Exception as error:  # A damaged file may raise anything, MemoryError and zlib.error among it.
        raise DataError(f"{path}: cannot be read as a table ({str(error).strip()}).") from error
    if frame.empty:
        raise DataError(f"{path}: the table has {len(frame)} rows and {len(frame.columns)} columns; nothing to read.")
    frame.columns = [str(column) for column in frame.columns]
    twice = sorted(set(frame.columns[frame.columns.duplicated()]))
    if twice:
        raise DataError(f"{path}: several columns are called {listed(twice)}. Rename them.")
    return frame.reset_index(drop=True)


def _read(path: Path, notes: list[str]) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    separator = "\t" if ".tsv" in path.name.lower() else ","
    frame = pd.read_csv(path, sep=separator, low_memory=False)
    if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
        notes.append(f"{path.name}: columns are separated by semicolons.")
        frame = pd.read_csv(path, sep=";", low_memory=False)
    return frame


def _read_npz(path: Path) -> pd.DataFrame:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if "X" not in arrays or arrays["X"].ndim != 2:
            raise ValueError(f"expected arrays X (N, F) and y (N,); it holds {listed(sorted(arrays)) or 'nothing'}")
        values = arrays["X"]
        frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
        if "y" in arrays:
            labels = arrays["y"].squeeze()
            if labels.shape != (len(values),):
                raise ValueError(f"X has {len(values)} rows, but y has the shape {arrays['y'].shape}")
            frame["y"] = labels
    return frame


def _no_target(path: Path, frame: pd.DataFrame, target: str | None) -> str:
    columns = listed([str(column) for column in frame.columns], most=40)
    if target is None:
        return f"{path}: which column holds the class? Name it by --target; the columns are {columns}."
    return f"{path}: there is no column {target!r} for --target; the columns are {columns}."


def _split_target(
    path: Path, frame: pd.DataFrame, target: str, request: Request, notes: list[str]
) -> tuple[pd.DataFrame, list[str | None]]:
    values = frame[target]
    missing = values.isna()
    if missing.all() and not request.labels_needed:
        return frame.drop(columns=target), [None] * len(frame)
    if missing.all():
        raise DataError(f"{path}: the target column {target!r} is empty in every row.")
    if missing.any() and not request.skip_bad:
        rows = listed([str(row + 1) for row in frame.index[missing]])
        raise DataError(
            f"{path}: the target column {target!r} is empty in {int(missing.sum())} of {len(frame)} rows: row {rows} "
            "(NA, None and null count as empty). Fill the cells, or skip bad samples (--skip-bad)."
        )
    if missing.any():
        notes.append(f"{path.name}: {int(missing.sum())} rows without a target were skipped.")
    frame, values = frame[~missing], values[~missing]
    if pd.api.types.is_float_dtype(values) and not (values % 1 == 0).all():
        fraction = values[values % 1 != 0]
        raise DataError(
            f"{path} row {fraction.index[0] + 1}: the target column {target!r} holds {fraction.iloc[0]}; a class must "
            "be a word or a whole number. Choose another column by --target, or bin the values."
        )
    return frame.drop(columns=target), [value_text(value) for value in values.tolist()]


def _same_columns(path: Path, frame: pd.DataFrame, columns: pd.Index) -> None:
    missing = [name for name in columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in columns]
    if missing or extra:
        raise DataError(
            f"{path}: its columns differ from the other files': missing {listed(missing) or 'none'}, "
            f"additional {listed(extra) or 'none'}."
        )
