"""Which columns make a row stand out: what its score loses when a column takes its typical value."""

import pandas as pd
from torch import Tensor

from imbsam.anomaly.saved import SavedDetector
from imbsam.anomaly.sources import feature_groups
from imbsam.data.sources.tables import value_text

MOST = 3
"""Columns shown of a row."""


def outstanding(saved: SavedDetector, row: Tensor, frame: "pd.Series | None") -> list[tuple[str, str, float]]:
    """The columns that matter most to a row's score.

    Each column in turn takes its median over the training rows; the loss of score is what it contributed. Two columns
    that say the same share nothing of it: either alone may lose little.

    Args:
        saved: The detector.
        row: As the detector takes it, shape ``(columns,)``.
        frame: As it stands in the table; ``None`` for an image, of which nothing is told.

    Returns:
        Name, value and loss of score, the largest first; columns that lose nothing are left out.
    """
    if frame is None:
        return []
    groups = feature_groups(saved.preprocess)
    without = row.repeat(len(groups), 1)
    for place, columns in enumerate(groups.values()):
        without[place, columns] = saved.typical[columns]
    losses = saved.detector.score(row.unsqueeze(0)) - saved.detector.score(without)
    found = sorted(zip(groups, losses.tolist(), strict=True), key=lambda pair: -pair[1])[:MOST]
    return [(name, _shown(frame[name]), loss) for name, loss in found if loss > 0]


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and not value.is_integer() else value_text(value)
