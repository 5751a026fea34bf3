"""Reading of files for a detector: rows of numbers or images, and the kind of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import torch
from torch import Tensor

from imbsam import data
from imbsam.anomaly.frames import most_categories, one_hot_rows
from imbsam.anomaly.labels import ANOMALY, NORMAL, UNLABELLED
from imbsam.anomaly.words import LabelWords
from imbsam.data.columns import Columns, Findings, fit_columns, is_constant, notes_on
from imbsam.data.load import load_further
from imbsam.data.sources import open_tables
from imbsam.data.sources.cells import meaning, texts_of
from imbsam.data.sources.raw import NOTHING_ASKED, Request, listed, placed
from imbsam.data.sources.schema import Reading, learn, missing_words
from imbsam.errors import DataError

BLOCK = 65_536
"""Number of rows of a file that are held in memory while it is scored."""

Preprocess = Mapping[str, object]


@dataclass(frozen=True)
class Block:
    """Block of rows of a source.

    Args:
        rows: Rows, shape ``(n, columns)``, float32, or images ``(n, channels, height, width)``, uint8.
        kinds: Kind of each row, shape ``(n,)``; ``None`` if the source has no labels.
        names: Name of each row: its number from 1, its value in the naming column, or its file.
        table: Rows as in the table.
    """

    rows: Tensor
    kinds: Tensor | None
    names: Sequence[str]
    table: pa.Table | None = None

    @property
    def known(self) -> Tensor:
        """Kinds of the rows, which have labels."""
        assert self.kinds is not None
        return self.kinds

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of rows of each kind: unlabelled, anomalies, normal."""
        unlabelled, anomalies, normal = torch.bincount(self.known, minlength=3).tolist()
        return unlabelled, anomalies, normal


def read_training(
    source: str,
    labels: str | None,
    words: LabelWords,
    *,
    request: Request = NOTHING_ASKED,
    image_size: int | None = None,
) -> tuple[Block, Preprocess, tuple[str, ...]]:
    """Read the data to fit a detector on.

    Args:
        source: Tables, or a folder of images with a subfolder for each word.
        labels: Column with the labels; ``y`` by default in an npz, and not used for images.
        words: Words for labels.
        request: Options of reading a table: what to ignore, what is text or missing, and its format.
        image_size: Side of the square that images are resized to.

    Returns:
        All rows, everything needed to read further rows in the same way, and notes on what was done to the data.

    Raises:
        DataError: If the source cannot be read or used; the message names the file, row or column.
    """
    files = open_tables(source, request)
    if files is None:
        return _training_images(source, words, image_size, request.skip_bad)
    labels = labels or ("y" if all(file.path.suffix.lower() == ".npz" for file in files.files) else None)
    shown = listed(list(files.names), 40)
    if labels is None or not files.has(labels):
        missing = "which column holds the labels?" if labels is None else f"there is no column {labels!r}."
        raise DataError(f"{source}: {missing} Name it by --labels; the columns are {shown}.")
    request.check_names([name for name in files.names if name != labels], source)
    table, rows = files.whole([name for name in files.names if name not in request.ignore])
    if not len(table):
        raise DataError(f"{source}: the table has no rows.")
    kinds = _kinds(words, texts_of(table.column(labels), missing_words(request.dialect.missing)), rows, source)
    schema, notes = learn(
        table.drop_columns(labels),
        is_file=files.is_text,
        texts=request.texts,
        missing=request.dialect.missing,
        source=source,
    )
    reading = Reading(schema, source, files.decimal(schema, request.dialect.decimal))
    frame = reading.frame(table, rows)
    useless = [str(name) for name in frame if is_constant(frame[name])]
    if useless:
        notes.append(f"columns that are the same in every row carry no information and are ignored: {listed(useless)}.")
        frame, schema = frame.drop(columns=useless), schema.without(useless)
    if not len(frame.columns):
        raise DataError(f"{source}: no column is left to learn from.")
    columns, said = fit_columns(frame, schema, rows, most=most_categories(frame))
    preprocess: dict[str, object] = {"kind": "table", "labels": labels, "ignore": list(request.ignore)}
    preprocess |= {"useless": useless, **columns.plain()}
    found = Findings()
    block = Block(one_hot_rows(frame, columns, rows, found), kinds, rows, table)
    notes += [*files.notes, *reading.notes(), *notes_on(columns, frame), *said, *found.notes()]
    return block, preprocess, tuple(notes)


def read_further(
    source: str,
    preprocess: Preprocess,
    words: LabelWords,
    *,
    labelled: bool = False,
    names: str | None = None,
    request: Request = NOTHING_ASKED,
    notes: list[str],
) -> Iterator[Block]:
    """Read further rows in the same way as those of training, a table in blocks.

    Args:
        source: Source, as for :func:`read_training`.
        preprocess: Encoding from :func:`read_training`.
        words: Words for labels.
        labelled: Whether labels are needed; otherwise they are not read.
        names: Column of a table that names its rows.
        request: Options of reading a table: its format.
        notes: List to which sentences are added after the last row: what could not be read, was filled in or ignored.

    Yields:
        Blocks of rows.

    Raises:
        DataError: If the source cannot be read, does not fit, or lacks labels that are needed.
    """
    files = open_tables(source, request)
    if (files is None) != (preprocess["kind"] == "image"):
        raise DataError(
            f"{source}: the detector was fitted on {preprocess['kind']}s, but this source is something else."
        )
    if files is None:
        yield _further_images(source, preprocess, words, labelled=labelled, skip_bad=request.skip_bad, notes=notes)
        return
    columns, label, found = Columns.of(preprocess), str(preprocess["labels"]), Findings()
    needed = dict.fromkeys(columns.schema.names, "which training had")
    needed |= {label: "the labels"} if labelled else {}
    needed |= {names: "the rows' names"} if names else {}
    for name, what in needed.items():
        if not files.has(name):
            raise DataError(
                f"{source}: there is no column {name!r}, {what}; the columns are {listed(list(files.names), 40)}."
            )
    schema = columns.schema
    reading = Reading(schema, source, files.decimal(schema, request.dialect.decimal))
    for table, rows in files.blocks(list(needed), BLOCK):
        texts = texts_of(table.column(label), schema.missing_words) if labelled else None
        kinds = None if texts is None else _kinds(words, texts, rows, source)
        called = rows if names is None else [text or "" for text in texts_of(table.column(names))]
        frame = reading.frame(table, rows)
        yield Block(one_hot_rows(frame, columns, rows, found), kinds, called, table)
    known = {*needed, label, *cast(list[str], preprocess["ignore"]), *cast(list[str], preprocess["useless"])}
    extra = [name for name in files.names if name not in known]
    if extra:
        notes.append(f"{source}: columns that training did not have were ignored: {listed(extra)}.")
    notes += placed(source, (*files.notes, *reading.notes(), *found.notes()))


def feature_groups(preprocess: Preprocess) -> dict[str, list[int]]:
    """Return which entries of a row belong to each column of the table, in the columns' order."""
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


def _kinds(words: LabelWords, texts: Sequence[str | None], rows: Sequence[str], where: str) -> Tensor:
    """Read labels, shape ``(N,)``, see :mod:`imbsam.anomaly.labels`."""
    kind_of = {words.anomaly: ANOMALY, words.normal: NORMAL, words.unlabelled: UNLABELLED, None: UNLABELLED}
    for text in {text for text in texts if text not in kind_of}:
        same = {kind for word, kind in kind_of.items() if word is not None and meaning(word) == meaning(str(text))}
        if len(same) == 1:
            kind_of[text] = same.pop()
    unknown = sorted({text for text in texts if text is not None and text not in kind_of})
    if unknown:
        row = next(row for row, text in zip(rows, texts, strict=True) if text not in kind_of)
        raise DataError(
            f"{where}: unknown labels {listed(unknown)}, first in row {row}. Anomalies are {words.anomaly!r}, rows "
            f"known to be normal {words.normal!r}, unlabelled ones {words.unlabelled!r} or empty. "
            "Other words: --anomaly WORD, --normal WORD, --unlabelled WORD."
        )
    return torch.tensor([kind_of[text] for text in texts])


def _training_images(
    source: str, words: LabelWords, image_size: int | None, skip_bad: bool
) -> tuple[Block, Preprocess, tuple[str, ...]]:
    found = data.load(source, validation_fraction=0, test_fraction=0, image_size=image_size, skip_bad=skip_bad)
    preprocess = {"kind": "image", "classes": list(found.classes), "read": dict(found.preprocess)}
    block = _image_block(found.train, found.classes, words, source)
    return block, preprocess, found.notes


def _further_images(
    source: str, preprocess: Preprocess, words: LabelWords, *, labelled: bool, skip_bad: bool, notes: list[str]
) -> Block:
    read = cast(Mapping[str, object], preprocess["read"])
    samples, has_labels, said = load_further(source, read, skip_bad=skip_bad)
    notes += said
    if labelled and not has_labels:
        raise DataError(f"{source} has no subfolders {words.anomaly!r} and {words.normal!r} for labelled images.")
    classes = tuple(cast(list[str], preprocess["classes"]))
    return _image_block(samples, classes if labelled else None, words, source)


def _image_block(samples: data.Samples, classes: Sequence[str] | None, words: LabelWords, source: str) -> Block:
    kinds = None
    if classes is not None:
        texts = [classes[target] for target in samples.targets.tolist()]
        kinds = _kinds(words, texts, samples.names, source)
    return Block(samples.batch(torch.arange(len(samples))), kinds, list(samples.names))
