"""Reader of tables: CSV and similar, Excel, Parquet and npz, with one column for the class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from imbsam.data.sources.cells import meaning, plain_number, texts_of
from imbsam.data.sources.raw import PARTS, Part, PartName, Raw, Request, by_part, index_labels, listed, unlabelled
from imbsam.data.sources.schema import Reading, learn, missing_words
from imbsam.data.sources.table_set import TableSet, check_same_columns
from imbsam.errors import DataError

MOST_CLASSES = 200
"""Number of distinct values above which a target of fractions is a quantity, not a class; also above half the rows."""


@dataclass(frozen=True)
class Rows:
    """Rows of a part that have a class, or all rows if none has.

    Args:
        files: Files that contain them.
        table: Table of the features, each cell as it is in the files.
        names: Names of the rows.
        labels: Class of each row; empty if the part has none.
    """

    files: TableSet
    table: pa.Table
    names: Sequence[str]
    labels: list[str]


def read_tables(paths: Sequence[Path], request: Request, *, root: Path | None = None) -> Raw:
    """Read one or several files; if some names say ``train``, the names divide the files into parts.

    Args:
        paths: The files.
        request: Options of the reader. ``target`` names the class column, which is read as text; an ``.npz`` has it in
            its array ``y``. ``schema`` gives the types of the columns; by default they are learned from the training
            part.
        root: Folder partitioned by columns that contains the files.

    Returns:
        The parts as frames without the class column, see :class:`~imbsam.data.sources.schema.Reading`; rows are
        counted from 1, without the header.

    Raises:
        DataError: If a file cannot be read, the class column is missing or has empty cells, or the files of one data
            set have different columns.
    """
    target = request.target or ("y" if all(path.suffix.lower() == ".npz" for path in paths) else None)
    notes: list[str] = []
    groups = by_part(paths) if root is None else {"train": list(paths)}
    parts: dict[PartName, Rows] = {}
    for part in PARTS:
        if part in groups:
            files = TableSet.open(
                groups[part], request.dialect, skip_bad=request.skip_bad, root=root, several=len(paths) > 1
            )
            for first in list(parts.values())[:1]:
                check_same_columns(groups[part][0], _without(files.names, target), _without(first.files.names, target))
            parts[part] = _rows(files, part, target, request, notes)
    schema = request.schema
    if schema is None:
        train = parts["train"]
        schema, said = learn(
            train.table,
            is_file=train.files.is_text,
            texts=request.texts,
            missing=request.dialect.missing,
            source=train.files.called,
        )
        notes += said
    of = {}
    classes, targets = index_labels({part: rows.labels for part, rows in parts.items()})
    if request.schema is None:
        _check_alike(classes, parts["train"].files.called)
    for part, rows in parts.items():
        reading = Reading(schema, rows.files.called, rows.files.decimal(schema, request.dialect.decimal))
        frame = reading.frame(rows.table, rows.names)
        notes += reading.notes()
        of[part] = Part(frame, targets[part] if rows.labels else unlabelled(len(frame)), rows.names)
    name = (root or paths[0].resolve().parent).name if root or len(paths) > 1 else paths[0].name.split(".")[0]
    return Raw(name, classes, of, tuple(notes), target, schema)


def _without(names: Sequence[str], target: str | None) -> list[str]:
    return [name for name in names if name != target]


def _rows(files: TableSet, part: PartName, target: str | None, request: Request, notes: list[str]) -> Rows:
    if not files.has(target) and request.labels_needed and part == "train":
        raise DataError(_no_target(files, target))
    kept = _wanted(files, target, request, notes)
    if not kept:
        raise DataError(f"{files.called}: the table has no feature column left.")
    table, names = files.whole([*kept, *files.having(target)])
    notes += files.notes
    if not len(table):
        raise DataError(
            f"{files.called}: the table has 0 rows and {len(files.names)} columns; there is there is nothing to read."
        )
    rows = Rows(files, table, names, [])
    return _labelled(rows, str(target), request, notes) if files.has(target) else rows


def _wanted(files: TableSet, target: str | None, request: Request, notes: list[str]) -> list[str]:
    """Return the feature columns that are needed."""
    features = _without(files.names, target)
    kept = [name for name in features if name not in request.ignore]
    if request.schema is None:
        request.check_names(features, files.called)
        return kept
    wanted = request.schema.names
    if absent := [name for name in wanted if name not in features]:
        raise DataError(f"{files.called}: the table lacks columns of the training data: {listed(absent)}.")
    if extra := [name for name in kept if name not in wanted]:
        notes.append(f"columns that training did not have were ignored: {listed(extra)}.")
    return wanted


def _labelled(rows: Rows, target: str, request: Request, notes: list[str]) -> Rows:
    """Return the rows that have a class."""
    where, table = rows.files.called, rows.table.drop_columns(target)
    texts = texts_of(rows.table.column(target), missing_words(request.dialect.missing))
    missing = [rows.names[place] for place, text in enumerate(texts) if text is None]
    if len(missing) == len(texts) and not request.labels_needed:
        return replace(rows, table=table)
    if len(missing) == len(texts):
        raise DataError(f"{where}: the target column {target!r} is empty in every row.")
    if missing and not request.skip_bad:
        raise DataError(
            f"{where}: the target column {target!r} is empty in {len(missing)} of {len(texts)} rows: row "
            f"{listed(missing)} (NA, None and null count as empty; --missing says which words do). Fill the cells, or "
            "skip bad samples (--skip-bad)."
        )
    if missing:
        rows_were = "1 row without a target was" if len(missing) == 1 else f"{len(missing)} rows without a target were"
        notes.append(f"{where}: {rows_were} skipped: {listed(missing)}.")
        table = table.filter(pa.array([text is not None for text in texts]))
    kept = [name for name, text in zip(rows.names, texts, strict=True) if text is not None] if missing else rows.names
    found = Rows(rows.files, table, kept, [text for text in texts if text is not None])
    _check_classes(found, target)
    return found


def _check_classes(rows: Rows, target: str) -> None:
    """Refuse a quantity, which cannot be a class."""
    different = set(rows.labels)
    numbers = {text: plain_number(text) for text in different}
    fractions = {text for text, number in numbers.items() if number is not None and number % 1 != 0}
    many = len(different) > MOST_CLASSES or 2 * len(different) > len(rows.labels)
    if fractions and many and all(number is not None for number in numbers.values()):
        place = next(place for place, label in enumerate(rows.labels) if label in fractions)
        raise DataError(
            f"{rows.files.called} row {rows.names[place]}: the target column {target!r} holds {rows.labels[place]}, "
            f"one of {len(different)} numbers; a class must be a word or a repeated number. Choose another column "
            "by --target, or bin the values."
        )


def _check_alike(classes: Sequence[str], where: str) -> None:
    """Refuse two classes that are the same, written in two ways."""
    known: dict[str, str] = {}
    for name in classes:
        if (other := known.setdefault(meaning(name), name)) != name:
            raise DataError(f"{where}: the classes {other!r} and {name!r} are the same. Write them in the same way.")


def _no_target(files: TableSet, target: str | None) -> str:
    columns = listed(list(files.names), most=40)
    if target is None:
        return f"{files.called}: which column holds the class? Name it by --target; the columns are {columns}."
    return f"{files.called}: there is no column {target!r} for --target; the columns are {columns}."
