"""What a reader hands over: the parts of a data set before splitting, decoding and encoding."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import torch
from torch import Tensor

from imbsam.data.sources.dialect import AS_FOUND, Dialect
from imbsam.errors import DataError

if TYPE_CHECKING:
    # At run time images need not wait for pandas and pyarrow.
    import pandas as pd

    from imbsam.data.sources.schema import Schema

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")

Encoded: TypeAlias = Path | bytes
Content: TypeAlias = "Tensor | Sequence[Encoded] | pd.DataFrame"
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
        elif self.is_table:
            content = self.frame.iloc[chosen]
        else:
            content = [self.content[i] for i in chosen]
        return Part(content, self.targets[indices], [self.names[i] for i in chosen])

    @property
    def is_table(self) -> bool:
        """Whether the samples are rows of a table."""
        return not isinstance(self.content, Tensor | Sequence)

    @property
    def frame(self) -> "pd.DataFrame":
        """The content of a table's part."""
        return cast("pd.DataFrame", self.content)

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
    schema: "Schema | None" = None

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
    schema: "Schema | None" = None

    def check_names(self, features: Sequence[str], where: str) -> None:
        """Refuse columns to ignore, or to take for text, that are no feature of a table.

        Args:
            features: Names of the table's columns, without the class or label.
            where: What the table is called in messages.

        Raises:
            DataError: Naming them.
        """
        for option, names in (("--ignore", self.ignore), ("--text", self.texts)):
            if unknown := [name for name in names if name not in features]:
                raise DataError(
                    f"{where}: {option} names {listed(unknown)}, but the feature columns are {listed(features, 40)}."
                )


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
    """Group files or folders by the part their names speak of.

    Args:
        paths: Not empty.

    Returns:
        The paths of each part; all are training data where they speak of one part only, or of none.

    Raises:
        DataError: If some names speak of a part and others of none, if there are parts but none to train on, or if a
            file is named twice.
    """
    twice = [str(path) for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise DataError(f"named twice: {listed(twice)}. Name each file once.")
    groups: dict[PartName | None, list[Path]] = {}
    for path in paths:
        groups.setdefault(part_of(path.name), []).append(path)
    if len(groups) == 1:
        return {"train": list(paths)}
    if None in groups or "train" not in groups:
        found = [f"{part or 'no part'}: {listed([path.name for path in of])}" for part, of in groups.items()]
        raise DataError(
            f"of {len(paths)} files, which is for what? The names speak of {'; '.join(found)}. Rename them so that "
            "all say train, val or test, or none does; or name only the files that belong together."
        )
    return {part: groups[part] for part in PARTS if part in groups}


def belonging(paths: Sequence[Path]) -> list[Path]:
    """The files of a folder without those that speak of no part, where one is called just ``train``."""
    named = [path for path in paths if part_of(path.name)]
    return named if any(re.match(r"train(ing)?(\.|-\d+-of-)", path.name.lower()) for path in named) else list(paths)


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


def placed(source: str, notes: Iterable[str]) -> list[str]:
    """Notes that begin with the source or the file that they are about."""
    names = (f"{source}: ", f"{Path(source).name}: ")
    return [note if note.startswith(names) else f"{source}: {note}" for note in notes]


def listed(items: Sequence[str], most: int = 8) -> str:
    """``a, b, c`` or ``a, b, c and 12 more``."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
