"""The rows with the highest scores, and which columns make each stand out."""

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
"""Rows kept."""

MOST = 3
"""Columns named of a row."""


@dataclass(frozen=True)
class Outstanding:
    """A row with one of the highest scores.

    Args:
        name: Its number, its name, or its file.
        score: Its score.
        anomaly: Whether it is a labelled anomaly.
        columns: Name, value and loss of score of the columns that matter most.
    """

    name: str
    score: float
    anomaly: bool
    columns: Sequence[tuple[str, str, float]]


class HighestScores:
    """The rows with the highest scores of all labelled blocks so far.

    Args:
        saved: The detector whose scores they are.
    """

    def __init__(self, saved: SavedDetector) -> None:
        self.saved = saved
        self.rows: list[tuple[float, str, bool, Tensor, Mapping[str, object] | None]] = []

    def add(self, block: Block, scores: NDArray[np.float64]) -> None:
        """Look at a block; a row whose score is -inf is never kept."""
        for place in np.argsort(-scores, kind="stable")[:TOP].tolist():
            cells = None if block.table is None else block.table.slice(place, 1).to_pylist()[0]
            known = bool(block.known[place] == ANOMALY)
            self.rows.append((float(scores[place]), block.names[place], known, block.rows[place], cells))
        self.rows = sorted(self.rows, key=lambda row: -row[0])[:TOP]

    def outstanding(self) -> list[Outstanding]:
        """The rows, the highest score first, with what stands out in them."""
        return [
            Outstanding(name, score, known, standing_out(self.saved, row, cells))
            for score, name, known, row, cells in self.rows
            if np.isfinite(score)
        ]


def standing_out(saved: SavedDetector, row: Tensor, cells: Mapping[str, object] | None) -> list[tuple[str, str, float]]:
    """The columns that matter most to a row's score.

    Each column in turn takes its median over the training rows; the loss of score is what it contributed. Two columns
    that say the same share nothing of it: either alone may lose little.

    Args:
        saved: The detector.
        row: As the detector takes it, shape ``(columns,)``.
        cells: As it stands in the table; ``None`` for an image, of which nothing is told.

    Returns:
        Name, value and loss of score, the largest first; columns that lose nothing are left out.
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
