"""Confusion matrix of one method, summed over its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imbsam.report.drawing import FIGURE_WIDTH, Picture
from imbsam.report.files import Run
from imbsam.report.words import seeds, short
from imbsam.runs.records import Split

Floats = npt.NDArray[np.float64]

MAX_LABELLED_CLASSES = 30
MAX_CELLS = 100
POOLS = 50


@dataclass(frozen=True)
class _Confusion:
    """Summed counts, shape (cells, cells), and the names of its rows."""

    counts: Floats
    names: Sequence[str]
    classes: int
    runs: int

    @property
    def shares(self) -> Floats:
        """Return each row in percent of its sum; NaN where there was no sample."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares = np.full(self.counts.shape, np.nan)
        np.divide(100.0 * self.counts, totals, out=shares, where=totals > 0)
        return shares

    @property
    def labelled(self) -> bool:
        """Return whether there is room for the names of the classes."""
        return self.classes <= MAX_LABELLED_CLASSES


def confusion_matrix(runs: Sequence[Run], split: Split, *, name: str, label: str) -> Picture | None:
    """Draw the confusion matrix in percent of each true class; None if no run has one.

    Args:
        runs: Runs of one method; their matrices are summed after each is ordered by its own training counts.
        split: The set evaluated.
        name: Name of the picture's file.
        label: The method.

    Returns:
        The picture, classes from frequent to rare; more than 100 are pooled in 50 groups.
    """
    confusion = _summed(runs, split)
    if confusion is None:
        return None
    wide = confusion.labelled and confusion.classes > 12
    side = 9.0 if wide else FIGURE_WIDTH
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    _draw(figure, confusion, label)
    pointed = {"cells": _cells_in_words(confusion)} if confusion.labelled else {}
    order = ["Classes from frequent to rare", *(["training samples in brackets"] if confusion.labelled else [])]
    if len(confusion.names) < confusion.classes:
        order.append(f"pooled in {POOLS} groups of neighbours, so the diagonal holds confusions within a group too")
    return Picture(
        name=name,
        title=f"Confusion of {label}",
        alt=_in_words(confusion, label),
        caption=(
            f"{', '.join(order)}. Each row sums to 100 % of its samples in the {split} set, "
            f"over {seeds(confusion.runs)}."
        ),
        figure=figure,
        tips=pointed,
        wide=wide,
    )


def _summed(runs: Sequence[Run], split: Split) -> _Confusion | None:
    ordered = [pair for run in runs if (pair := _by_count(run, split)) is not None]
    if not ordered or any(matrix.shape != ordered[0][0].shape for matrix, _ in ordered):
        return None
    counts = np.sum([matrix for matrix, _ in ordered], axis=0)
    names = ordered[0][1]
    if any(other != names for _, other in ordered):
        # Other classes at this rank in other seeds: only the rank is common.
        falling = [sorted(run.result.counts, reverse=True) for run in runs]
        means = np.mean([counts for counts in falling if len(counts) == len(names)], axis=0)
        names = [f"rank {rank} ({mean:.0f})" for rank, mean in enumerate(means, start=1)]
    classes = len(names)
    if classes > MAX_CELLS:
        starts = np.linspace(0, classes, POOLS, endpoint=False).astype(int)
        counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
        ends = [*starts[1:], classes]
        names = [f"ranks {start + 1} to {end}" for start, end in zip(starts, ends, strict=True)]
    return _Confusion(counts=counts, names=names, classes=classes, runs=len(ordered))


def _by_count(run: Run, split: Split) -> tuple[Floats, list[str]] | None:
    """Return a run's matrix and class names, the most frequent class first."""
    metrics = run.result.scores(split)
    confusion = None if metrics is None else metrics.confusion
    if confusion is None:
        return None
    classes, counts = run.result.classes, run.result.counts
    order = np.argsort(-np.array(counts), kind="stable")
    matrix = np.array(confusion, dtype=np.float64)[np.ix_(order, order)]
    return matrix, [f"{short(classes[i], 18)} ({counts[i]})" for i in order]


def _draw(figure: Figure, confusion: _Confusion, label: str) -> None:
    axis = figure.subplots()
    classes = confusion.classes
    # Cells are centred on the ranks 1 to C. Few enough are drawn one by one, to be pointed at.
    edges = np.linspace(0.5, classes + 0.5, len(confusion.counts) + 1)
    image = axis.pcolormesh(
        edges, edges, confusion.shares, cmap="Blues", vmin=0, vmax=100, gid="cells", rasterized=not confusion.labelled
    )
    axis.invert_yaxis()
    axis.set_aspect("equal")
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if confusion.labelled:
        _label_cells(axis, confusion.shares)
        ranks = range(1, classes + 1)
        size = 9 if classes <= 20 else 8
        axis.set_xticks(ranks, confusion.names, rotation=90 if classes > 3 else 0, fontsize=size)
        axis.set_yticks(ranks, confusion.names, fontsize=size)
    ranked = "" if confusion.labelled else " (rank by training count)"
    axis.set_xlabel(f"predicted class{ranked}")
    axis.set_ylabel(f"true class{ranked}")
    axis.set_title(f"Confusion: {short(label)}")
    figure.colorbar(image, ax=axis, label="share of the true class (%)", shrink=0.8)


def _label_cells(axis: Axes, shares: Floats) -> None:
    size = float(np.clip(110 / len(shares), 5, 10))
    for (row, column), share in np.ndenumerate(shares):
        if share >= 1:
            tone = "#fdfdfd" if share > 55 else "#000000"
            axis.text(column + 1, row + 1, f"{share:.0f}", ha="center", va="center", fontsize=size, color=tone)


def _cells_in_words(confusion: _Confusion) -> list[str]:
    return [
        f"{confusion.names[row]} predicted as {confusion.names[column]}: {count:g} of {total:g}"
        + (f", {100 * count / total:.1f} %" if total else "")
        for row, (counts, total) in enumerate(zip(confusion.counts, confusion.counts.sum(axis=1), strict=True))
        for column, count in enumerate(counts)
    ]


def _in_words(confusion: _Confusion, label: str) -> str:
    off = np.nan_to_num(confusion.shares)
    np.fill_diagonal(off, 0)
    row, column = divmod(int(off.argmax()), len(off))
    return (
        f"Confusion matrix of {label}, {confusion.classes} classes from frequent to rare. Largest confusion: "
        f"{confusion.names[row]} predicted as {confusion.names[column]}, {off[row, column]:.0f} % of its samples."
    )
