"""What a reader hands over: the parts of a data set before splitting, decoding and encoding."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

import pandas as pd
import torch
from torch import Tensor

from imbsam.data.sources.dialect import AS_FOUND, Dialect
from imbsam.data.sources.schema import Schema

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")

Encoded: TypeAlias = Path | bytes
Content: TypeAlias = Tensor | Sequence[Encoded] | pd.DataFrame
"""uint8 images (N, C, H, W), or N image files (as paths or as bytes), or a frame of N feature rows."""

UNLABELLED = -1

_PART_WORDS: dict[PartName, str] = {
    "train": "train|training",
    "validation": "val|valid|validation|dev",
    "test": "test|testing",
}


@dataclass(frozen=True)
class Part:
    """One part of a source.

    Args:
        content: The samples as they were found.
        targets: Index into the source's classes, shape ``(N,)``, int64; -1 where unlabelled.
        names: N file paths or row numbers.
    """

    content: Content
    targets: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> "Part":
        """The samples at ``indices``, in that order."""
        chosen = indices.tolist()
        if isinstance(self.content, Tensor):
            content: Content = self.content[indices]
        elif isinstance(self.content, pd.DataFrame):
            content = self.content.iloc[chosen]
        else:
            content = [self.content[i] for i in chosen]
        return Part(content, self.targets[indices], [self.names[i] for i in chosen])

    @property
    def frame(self) -> pd.DataFrame:
        """The content of a table's part."""
        return cast(pd.DataFrame, self.content)

    @property
    def labelled(self) -> bool:
        """Whether any sample has a class."""
        return bool((self.targets != UNLABELLED).any())


@dataclass(frozen=True)
class Raw:
    """A source as it was found.

    Args:
        name: Short name.
        classes: Names of the classes that any part mentions.
        parts: The parts found; ``train`` is always there, and is everything where the source has no parts.
        notes: What the reader skipped or decided, a sentence each.
        target: Name of the target column; None where the source has none or the usual one.
        schema: What the columns of a table are.
    """

    name: str
    classes: tuple[str, ...]
    parts: Mapping[PartName, Part]
    notes: tuple[str, ...] = ()
    target: str | None = None
    schema: Schema | None = None

    @property
    def train(self) -> Part:
        """The training part."""
        return self.parts["train"]

    def noting(self, *notes: str) -> "Raw":
        """The same with more notes."""
        return replace(self, notes=self.notes + notes)


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Args:
        target: The column that holds the class.
        skip_bad: Leave out samples that cannot be used instead of raising.
        labels_needed: Raise where the source has no labels.
        ignore: Columns of a table to leave out.
        texts: Columns of a table that are texts, whatever they look like.
        dialect: How a text table is written.
        schema: What the columns of a table are; by default that is learnt.
    """

    target: str | None = None
    skip_bad: bool = False
    labels_needed: bool = True
    ignore: Sequence[str] = ()
    texts: Sequence[str] = ()
    dialect: Dialect = AS_FOUND
    schema: Schema | None = None


NOTHING_ASKED = Request()
"""A source that says everything itself."""


def part_of(name: str) -> PartName | None:
    """Which part a file or folder name speaks of, as in ``ImageNet_LT_val.txt`` or ``train-00000-of-00002.parquet``."""
    words = re.split(r"[^a-z]+", name.lower())
    for part, pattern in _PART_WORDS.items():
        if any(re.fullmatch(pattern, word) for word in words):
            return part
    return None


def by_part(paths: Sequence[Path]) -> dict[PartName, list[Path]]:
    """Group files by the part their names speak of; all are training data where no name says ``train``."""
    named = [(part_of(path.name), path) for path in paths]
    if not any(part == "train" for part, _ in named):
        return {"train": list(paths)}
    return {part: files for part in PARTS if (files := [path for found, path in named if found == part])}


def index_labels(labels: dict[PartName, list[str]]) -> tuple[tuple[str, ...], dict[PartName, Tensor]]:
    """Give the labels of all parts one numbering.

    Args:
        labels: The label of each sample, for each part.

    Returns:
        The classes, in numeric order if all are whole numbers, else sorted; and the targets of each part.
    """
    found = {label for part in labels.values() for label in part}
    numeric = all(re.fullmatch(r"-?\d+", label) for label in found)
    classes = sorted(found, key=lambda label: (int(label), label)) if numeric else sorted(found)
    index = {label: i for i, label in enumerate(classes)}
    targets = {part: torch.tensor([index[label] for label in of], dtype=torch.int64) for part, of in labels.items()}
    return tuple(classes), targets


def unlabelled(count: int) -> Tensor:
    """Targets of ``count`` samples without a class."""
    return torch.full((count,), UNLABELLED)


def listed(items: Sequence[str], most: int = 8) -> str:
    """``a, b, c`` or ``a, b, c and 12 more``."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
