"""From files to what a detector takes: rows of numbers or images, and what is known of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from imbsam import data
from imbsam.anomaly.labels import ANOMALY, NORMAL, UNLABELLED
from imbsam.anomaly.words import LabelWords
from imbsam.data.columns import (
    Columns,
    encoded,
    fit_columns,
    notes_on,
    numeric_columns,
    odd_value,
)
from imbsam.data.sources.raw import listed
from imbsam.data.sources.tables import is_text_table, read_blocks, read_frame, value_text
from imbsam.errors import DataError

BLOCK = 65_536
"""Rows of a file that are held in memory while it is scored."""

Preprocess = Mapping[str, object]


@dataclass(frozen=True)
class Block:
    """Some rows of a source.

    Args:
        rows: Shape ``(n, columns)``, float32, or images ``(n, channels, height, width)``, uint8.
        kinds: What is known of each, shape ``(n,)``; ``None`` where the source has no labels.
        names: Of each row: its number from 1, its value in the column asked for, or its file.
        frame: The rows as they stand in a table.
    """

    rows: Tensor
    kinds: Tensor | None
    names: list[str]
    frame: pd.DataFrame | None = None

    @property
    def known(self) -> Tensor:
        """The kinds of rows that were read with labels."""
        assert self.kinds is not None
        return self.kinds

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows of each kind: unlabelled, anomalies, normal."""
        unlabelled, anomalies, normal = torch.bincount(self.known, minlength=3).tolist()
        return unlabelled, anomalies, normal


def is_table(source: str) -> bool:
    """Whether a source is a file with rows; otherwise it is taken for images."""
    path = Path(source)
    if not path.exists():
        raise DataError(f"{source!r}: there is no such file or folder.")
    return path.is_file() and (is_text_table(path) or path.suffix in (".parquet", ".npz"))


def read_training(
    source: str, labels: str | None, words: LabelWords, *, ignore: Sequence[str] = (), image_size: int | None = None
) -> tuple[Block, Preprocess, tuple[str, ...]]:
    """Read what a detector is to be fitted on.

    Args:
        source: CSV, TSV, Parquet or npz; or a folder of images with a subfolder for each word.
        labels: The column with the labels; ``y`` by default of an npz, without meaning for images.
        words: How labels are written.
        ignore: Columns to leave out.
        image_size: Side of the square that images are resized to.

    Returns:
        All rows, what is needed to read further ones the same way, and notes on what was done to the data.

    Raises:
        DataError: If it cannot be read or used; names the file, row or column.
    """
    if not is_table(source):
        return _training_images(source, words, image_size)
    notes: list[str] = []
    path = Path(source)
    frame = read_frame(path, notes)
    labels = labels or ("y" if path.suffix == ".npz" else None)
    shown = listed([str(name) for name in frame.columns], 40)
    if labels is None or labels not in frame.columns:
        missing = "which column holds the labels?" if labels is None else f"there is no column {labels!r}."
        raise DataError(f"{source}: {missing} Name it by --labels; the columns are {shown}.")
    unknown = [name for name in ignore if name not in frame.columns]
    if unknown:
        raise DataError(f"{source}: --ignore names {listed(unknown)}, but the columns are {shown}.")
    kinds = _kinds(words, frame[labels].tolist(), source)
    features = frame.drop(columns=[labels, *ignore])
    useless = [str(name) for name in features if features[name].nunique(dropna=False) <= 1]
    if useless:
        notes.append(f"columns that are the same in every row tell nothing and are ignored: {listed(useless)}.")
        features = features.drop(columns=useless)
    if not len(features.columns):
        raise DataError(f"{source}: no column is left to learn from.")
    for name in features.columns:
        odd = odd_value(features[name])
        if odd is not None:
            raise DataError(f"{source}: column {name!r} holds {odd} values, which are no feature: --ignore {name!r}.")
    columns = fit_columns(features, numeric_columns(features), range(1, len(features) + 1))
    preprocess: dict[str, object] = {"kind": "table", "labels": labels, **asdict(columns)}
    block = _table_block(frame, columns, kinds, None)
    notes += notes_on(columns, features)
    return block, preprocess, tuple(notes)


def read_further(
    source: str, preprocess: Preprocess, words: LabelWords, *, labelled: bool = False, names: str | None = None
) -> Iterator[Block]:
    """Read rows as those of the training were read, a table some rows at a time.

    Args:
        source: As for :func:`read_training`.
        preprocess: As :func:`read_training` gave it.
        words: How labels are written.
        labelled: Labels are needed; otherwise they are not looked at.
        names: Column of a table that names its rows.

    Yields:
        Blocks of rows.

    Raises:
        DataError: If it cannot be read, does not fit, or has no labels where they are needed.
    """
    if is_table(source) != (preprocess["kind"] == "table"):
        raise DataError(f"{source}: the detector was fitted on {preprocess['kind']}s, and this is something else.")
    if preprocess["kind"] == "image":
        yield _further_images(source, preprocess, words, labelled=labelled)
        return
    columns = Columns.of(preprocess)
    label = str(preprocess["labels"])
    for frame in read_blocks(Path(source), BLOCK):
        for needed in [*columns.names, *([label] if labelled else []), *([names] if names else [])]:
            if needed not in frame.columns:
                what = {label: "the labels", names: "the rows' names"}.get(needed, "which training had")
                raise DataError(
                    f"{source}: there is no column {needed!r}, {what}; the columns are "
                    f"{listed([str(name) for name in frame.columns], 40)}."
                )
        kinds = _kinds(words, frame[label].tolist(), source) if labelled else None
        yield _table_block(frame, columns, kinds, names)


def feature_groups(preprocess: Preprocess) -> dict[str, list[int]]:
    """Which places of a row stand for each column of the table, in the columns' order."""
    columns = Columns.of(preprocess)
    groups = {column["name"]: [place] for place, column in enumerate(columns.numeric)}
    place = len(columns.numeric)
    for column in columns.numeric:
        if column["indicator"]:
            groups[column["name"]].append(place)
            place += 1
    for category, size in zip(columns.categorical, columns.spec.cardinalities, strict=True):
        groups[category["name"]] = list(range(place, place + size))
        place += size
    return groups


def _kinds(words: LabelWords, values: Sequence[object], where: str) -> Tensor:
    """Read labels, shape ``(N,)``, see :mod:`imbsam.anomaly.labels`."""
    kind_of = {words.anomaly: ANOMALY, words.normal: NORMAL, words.unlabelled: UNLABELLED, "": UNLABELLED}
    texts = ["" if pd.isna(value) else value_text(value) for value in values]
    unknown = sorted({text for text in texts if text not in kind_of})
    if unknown:
        row = next(row for row, text in enumerate(texts, start=1) if text not in kind_of)
        raise DataError(
            f"{where}: unknown labels {listed(unknown)}, first in row {row}. Anomalies are {words.anomaly!r}, rows "
            f"known to be normal {words.normal!r}, unlabelled ones {words.unlabelled!r} or empty. "
            "Other words: --anomaly WORD, --normal WORD, --unlabelled WORD."
        )
    return torch.tensor([kind_of[text] for text in texts])


def _table_block(frame: pd.DataFrame, columns: Columns, kinds: Tensor | None, names: str | None) -> Block:
    numbers = [str(row + 1) for row in frame.index]
    values, _ = encoded(frame, columns, numbers)
    spec = columns.spec
    # A code says which category, not how much: each becomes a column of 0 and 1.
    codes = [
        one_hot(values[:, spec.numeric + place].long(), size).to(values)
        for place, size in enumerate(spec.cardinalities)
    ]
    called = numbers if names is None else ["" if pd.isna(v) else value_text(v) for v in frame[names].tolist()]
    return Block(torch.cat([values[:, : spec.numeric], *codes], dim=1), kinds, called, frame)


def _training_images(
    source: str, words: LabelWords, image_size: int | None
) -> tuple[Block, Preprocess, tuple[str, ...]]:
    found = data.load(source, validation_fraction=0, test_fraction=0, image_size=image_size)
    preprocess = {"kind": "image", "classes": list(found.classes), "read": dict(found.preprocess)}
    block = _image_block(found.train, found.classes, words, source)
    return block, preprocess, found.notes


def _further_images(source: str, preprocess: Preprocess, words: LabelWords, *, labelled: bool) -> Block:
    samples, has_labels = data.load_like(source, cast(Mapping[str, object], preprocess["read"]))
    if labelled and not has_labels:
        raise DataError(f"{source} has no subfolders {words.anomaly!r} and {words.normal!r} that say what is known.")
    classes = tuple(cast(list[str], preprocess["classes"]))
    return _image_block(samples, classes if labelled else None, words, source)


def _image_block(samples: data.Samples, classes: Sequence[str] | None, words: LabelWords, source: str) -> Block:
    kinds = None
    if classes is not None:
        kinds = _kinds(words, [classes[target] for target in samples.targets.tolist()], source)
    return Block(samples.batch(torch.arange(len(samples))), kinds, list(samples.names))
