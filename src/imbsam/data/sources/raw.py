"""Result of a reader: the parts of a data set before splitting, decoding and encoding."""

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
"""Images, uint8 (N, C, H, W), or N image files (as paths or as bytes), or a frame of N feature rows."""

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
        content: Samples as they are in the source.
        targets: Index into the source's classes, shape ``(N,)``, int64; -1 where unlabelled.
        names: N file paths or row numbers.
    """

    content: Content
    targets: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> "Part":
        """Return the samples at ``indices``, in that order."""
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
        """Return whether the samples are rows of a table."""
        return not isinstance(self.content, Tensor | Sequence)

    @property
    def frame(self) -> "pd.DataFrame":
        """Frame of a table's part."""
        return cast("pd.DataFrame", self.content)

    @property
    def labelled(self) -> bool:
        """Return whether any sample has a class."""
        return bool((self.targets != UNLABELLED).any())


@dataclass(frozen=True)
class Raw:
    """Source as it was read.

    Args:
        name: Short name.
        classes: Names of the classes in any part.
        parts: The parts; ``train`` always exists, and is everything if the source has no parts.
        notes: Sentences that say what the reader skipped or decided.
        target: Name of the target column; None if the source has none or the usual one.
        schema: Types of a table's columns.
    """

    name: str
    classes: tuple[str, ...]
    parts: Mapping[PartName, Part]
    notes: tuple[str, ...] = ()
    target: str | None = None
    schema: "Schema | None" = None

    @property
    def train(self) -> Part:
        """Training part."""
        return self.parts["train"]

    def noting(self, *notes: str) -> "Raw":
        """Return the same source with more notes."""
        return replace(self, notes=self.notes + notes)


@dataclass(frozen=True)
class Request:
    """Options of a reader.

    Args:
        target: Column that holds the class.
        skip_bad: Leave out samples that cannot be used instead of raising an error.
        labels_needed: Raise an error if the source has no labels.
        ignore: Columns of a table to leave out.
        texts: Columns of a table to read as text even if they look like numbers.
        dialect: Format of a text table.
        schema: Types of a table's columns; by default they are learned.
    """

    target: str | None = None
    skip_bad: bool = False
    labels_needed: bool = True
    ignore: Sequence[str] = ()
    texts: Sequence[str] = ()
    dialect: Dialect = AS_FOUND
    schema: "Schema | None" = None

    def check_names(self, features: Sequence[str], where: str) -> None:
        """Refuse columns to ignore, or to read as text, that are not features of the table.

        Args:
            features: Names of the table's columns, without the class or label.
            where: Name of the table in messages.

        Raises:
            DataError: If there are such columns; the message names them.
        """
        for option, names in (("--ignore", self.ignore), ("--text", self.texts)):
            if unknown := [name for name in names if name not in features]:
                raise DataError(
                    f"{where}: {option} names {listed(unknown)}, but the feature columns are {listed(features, 40)}."
                )


NOTHING_ASKED = Request()
"""Request without options."""


def part_of(name: str) -> PartName | None:
    """Return the part that a name stands for: ``ImageNet_LT_val.txt``, ``train-00000-of-00002.parquet``."""
    words = re.split(r"[^a-z]+", name.lower())
    for part, pattern in _PART_WORDS.items():
        if any(re.fullmatch(pattern, word) for word in words):
            return part
    return None


def by_part(paths: Sequence[Path]) -> dict[PartName, list[Path]]:
    """Group files or folders by the part in their names.

    Args:
        paths: One or more paths.

    Returns:
        The paths of each part; all are training data if their names contain only one part, or none.

    Raises:
        DataError: If only some names contain a part, if there are parts but none to train on, or if a file is given
            twice.
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
            f"of {len(paths)} files, the purpose of some is unclear. The names contain {'; '.join(found)}. Rename them "
            "so that "
            "all say train, val or test, or none does; or give only the files that belong together."
        )
    return {part: groups[part] for part in PARTS if part in groups}


def belonging(paths: Sequence[Path]) -> list[Path]:
    """Return the files of a folder without those that name no part, if one is called just ``train``."""
    named = [path for path in paths if part_of(path.name)]
    return named if any(re.match(r"train(ing)?(\.|-\d+-of-)", path.name.lower()) for path in named) else list(paths)


def index_labels(labels: dict[PartName, list[str]]) -> tuple[tuple[str, ...], dict[PartName, Tensor]]:
    """Number the labels of all parts in one sequence.

    Args:
        labels: Label of each sample, for each part.

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
    """Return targets of ``count`` samples without a class."""
    return torch.full((count,), UNLABELLED)


def placed(source: str, notes: Iterable[str]) -> list[str]:
    """Return notes that begin with the source or file that they are about."""
    names = (f"{source}: ", f"{Path(source).name}: ")
    return [note if note.startswith(names) else f"{source}: {note}" for note in notes]


def listed(items: Sequence[str], most: int = 8) -> str:
    """Return ``a, b, c`` or ``a, b, c and 12 more``."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
