"""Reader of Parquet files of images in the layout of Hugging Face: ``image`` (bytes, path) and ``label``."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from imbsam.data.sources.raw import (
    PARTS,
    UNLABELLED,
    Part,
    PartName,
    Raw,
    Request,
    by_part,
    index_labels,
    listed,
    unlabelled,
)
from imbsam.errors import DataError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")


def parquet_schema(path: Path) -> pa.Schema:
    """Return the columns and types of a Parquet file.

    Raises:
        DataError: If the file is not Parquet.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}). Is the file complete?") from error


def image_column(schema: pa.Schema) -> str | None:
    """Find the column that contains encoded images, if there is one."""
    return next(
        (name for name in IMAGE_COLUMNS if name in schema.names and _holds_bytes(schema.field(name).type)), None
    )


def read_image_parquet(paths: Sequence[Path], request: Request) -> Raw:
    """Read one or several files; if some names say ``train``, the names divide the files into parts.

    The encoded images are held in memory.

    Args:
        paths: The files.
        request: Options of the reader; ``target`` names the label column, by default ``label``, ``fine_label`` or
            ``labels``.

    Returns:
        The parts, with class names from the Hugging Face metadata if present, else the labels themselves.

    Raises:
        DataError: If a file is not Parquet, lacks a column, has a label outside its classes, or has other class names
            than the first file.
    """
    groups = by_part(paths)
    first = groups["train"][0]
    schema = parquet_schema(first)
    label = _label_column(first, schema, request)
    names = _class_names(schema, label) if label else None
    contents: dict[PartName, list[Path | bytes]] = {}
    labels: dict[PartName, list[str]] = {}
    where: dict[PartName, list[str]] = {}
    notes: list[str] = []
    unread: dict[str, None] = {}
    for part in PARTS:
        for path in groups.get(part, []):
            images, values = _columns(path, label)
            schema = parquet_schema(path)
            unread |= dict.fromkeys(name for name in schema.names if name not in (image_column(schema), label))
            own = _class_names(schema, label) if label else None
            if own is not None and own != names:
                raise DataError(
                    f"{path}: its classes are {listed(own)}, but {listed(names or ['not named'])} in {first.name}. "
                    "Write both with the same names."
                )
            missing = [row for row, value in enumerate(values) if value is None]
            if missing and not request.skip_bad:
                raise DataError(
                    f"{path} row {missing[0] + 1}: column {label!r} is empty. Fill it, or skip bad samples."
                )
            if missing:
                notes.append(f"{path.name}: {len(missing)} rows without a label were skipped.")
            rows = [row for row, value in enumerate(values) if value is not None]
            contents.setdefault(part, []).extend(images[row] for row in rows)
            hidden = label is None or all(value == UNLABELLED for value in values)
            texts = [] if hidden else [_label_text(path, row, values[row], names) for row in rows]
            labels.setdefault(part, []).extend(texts)
            where.setdefault(part, []).extend(f"{path.name} row {row + 1}" for row in rows)
    classes, targets = _targets(labels, names)
    # Data sets with a secret test part give its labels as -1.
    targets |= {part: unlabelled(len(where[part])) for part in where if not labels[part]}
    parts = {part: Part(contents[part], targets[part], where[part]) for part in contents}
    notes += [f"columns that were not read: {listed(list(unread))}."] if unread else []
    name = paths[0].stem if len(paths) == 1 else paths[0].resolve().parent.name
    return Raw(name, classes, parts, tuple(notes), request.target)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(path: Path, schema: pa.Schema, request: Request) -> str | None:
    wanted = (request.target,) if request.target else LABEL_COLUMNS
    found = next((name for name in wanted if name in schema.names), None)
    if found is None and request.labels_needed:
        raise DataError(
            f"{path}: no column {' or '.join(wanted)}; the columns are {listed(schema.names)}. Name it by --target."
        )
    return found


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    twice = {name for name in names if names.count(name) > 1}
    return tuple(f"{name} ({i})" if name in twice else str(name) for i, name in enumerate(names))


def _columns(path: Path, label: str | None) -> tuple[list[bytes], list[object]]:
    image = image_column(parquet_schema(path))
    if image is None:
        raise DataError(f"{path}: no column {' or '.join(IMAGE_COLUMNS)} of encoded images.")
    try:
        table = pq.read_table(path, columns=[image, *([label] if label else [])])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}). Is the file complete?") from error
    if label and label not in table.column_names:
        raise DataError(f"{path}: no column {label!r}, which the other files have.")
    # A missing image becomes no bytes at all, which is reported like any image that cannot be read.
    images = [_encoded(value) or b"" for value in table.column(image).to_pylist()]
    return images, table.column(label).to_pylist() if label else [""] * len(images)


def _encoded(value: object) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def _label_text(path: Path, row: int, value: object, names: tuple[str, ...] | None) -> str:
    if names is None or isinstance(value, str):
        return str(value)
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise DataError(f"{path} row {row + 1}: label {value!r} is outside the {len(names)} classes of the metadata.")
    return names[value]


def _targets(
    labels: dict[PartName, list[str]], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[PartName, Tensor]]:
    if names is None:
        return index_labels(labels)
    index = {name: i for i, name in enumerate(names)}
    return names, {part: torch.tensor([index[label] for label in of]) for part, of in labels.items()}
