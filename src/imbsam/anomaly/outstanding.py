"""Rows with the highest scores, and the columns that contribute most to each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.saved import SavedDetector
from imbsam.anomaly.sources import Block, feature_groups
from imbsam.data.sources.cells import value_text

TOP = 20
"""Number of rows kept."""

MOST = 3
"""Largest number of columns named for a row."""


@dataclass(frozen=True)
class Outstanding:
    """Row with one of the highest scores.

    Args:
        name: Number, name or file of the row.
        score: Score of the row.
        anomaly: Whether it is a labelled anomaly.
        columns: Name, value and contribution of the columns that matter most.
    """

    name: str
    score: float
    anomaly: bool
    columns: Sequence[tuple[str, str, float]]


class HighestScores:
    """Rows with the highest scores of all labelled blocks so far.

    Args:
        saved: Detector that gives the scores.
    """

    def __init__(self, saved: SavedDetector) -> None:
        self.saved = saved
        self.rows: list[tuple[float, str, bool, Tensor, Mapping[str, object] | None]] = []

    def add(self, block: Block, scores: NDArray[np.float64]) -> None:
        """Add a block; a row whose score is -inf is never kept."""
        for place in np.argsort(-scores, kind="stable")[:TOP].tolist():
            cells = None if block.table is None else block.table.slice(place, 1).to_pylist()[0]
            known = bool(block.known[place] == ANOMALY)
            self.rows.append((float(scores[place]), block.names[place], known, block.rows[place], cells))
        self.rows = sorted(self.rows, key=lambda row: -row[0])[:TOP]

    def outstanding(self) -> list[Outstanding]:
        """Return the rows, the highest score first, with the columns that contribute most."""
        return [
            Outstanding(name, score, known, standing_out(self.saved, row, cells))
            for score, name, known, row, cells in self.rows
            if np.isfinite(score)
        ]


def standing_out(saved: SavedDetector, row: Tensor, cells: Mapping[str, object] | None) -> list[tuple[str, str, float]]:
    """Return the columns that contribute most to a row's score.

    Each column in turn is replaced by its median over the training rows; the drop of the score is its contribution. Two
    columns with the same information may both have a small contribution.

    Args:
        saved: The detector.
        row: Row as the detector takes it, shape ``(columns,)``.
        cells: Row as in the table; ``None`` for an image, for which nothing is returned.

    Returns:
        Name, value and contribution, the largest first; columns that contribute nothing are left out.
    """
    if cells is None:
        return []
    groups = feature_groups(saved.preprocess)
    without = row.repeat(len(groups), 1)
    for place, columns in enumerate(groups.values()):
        without[place, columns] = saved.typical[columns]
    losses = saved.detector.score(row.unsqueeze(0)) - saved.detector.score(without)
    found = sorted(zip(groups, losses.tolist(), strict=True), key=lambda pair: -pair[1])[:MOST]
    return [(name, _shown(cells[name]), loss) for name, loss in found if loss > 0]


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else value_text(value)
