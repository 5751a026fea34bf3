"""A saved detector on files: scores as CSV, and scores against labels."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.outstanding import HighestScores, Outstanding
from imbsam.anomaly.saved import SavedDetector
from imbsam.anomaly.sources import read_further
from imbsam.errors import DataError
from imbsam.metrics.detection import Evaluation, evaluated
from imbsam.storage.files import harmless, written_aside


def write_scores(saved: SavedDetector, source: str, out: Path, *, names: str | None = None) -> tuple[int, int]:
    """Write name, score and whether it is an anomaly of each row, some rows at a time.

    Args:
        saved: The detector.
        source: The rows.
        out: The CSV, which is there whole or as it was before.
        names: Column of a table that names its rows.

    Returns:
        How many rows there are, and how many of them are called anomalies.

    Raises:
        DataError: If the rows cannot be read or do not fit.
        RunError: If the file cannot be written.
    """
    rows = alarms = 0
    with written_aside(out) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([harmless(names or "row"), "score", "anomaly"])
        for block in read_further(source, saved.preprocess, saved.words, names=names):
            scores = saved.detector.score(block.rows)
            called = scores > saved.detector.threshold.value
            writer.writerows(
                zip(map(harmless, block.names), map(repr, scores.tolist()), called.int().tolist(), strict=True)
            )
            rows += len(scores)
            alarms += int(called.sum())
        text.detach()
    return rows, alarms


@dataclass(frozen=True)
class ScoredLabels:
    """The scores of labelled rows.

    Args:
        evaluation: Scores against labels.
        scores: Shape ``(N,)``.
        anomalous: Shape ``(N,)``.
        top: Rows with the highest scores.
    """

    evaluation: Evaluation
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    top: list[Outstanding]

    def numbers(self) -> dict[str, object]:
        """The evaluation without its curves, JSON-able."""
        found = self.evaluation
        return {
            "rows": found.rows,
            "anomalies": found.anomalies,
            "auroc": asdict(found.auroc),
            "average_precision": asdict(found.average_precision),
            "at_threshold": none_for_nan(asdict(found.chosen)),
            "trade_off": [none_for_nan(asdict(at)) for at in found.trade_off],
        }


def evaluate(saved: SavedDetector, source: str, *, labels: str | None = None, names: str | None = None) -> ScoredLabels:
    """Compare scores with labels.

    Args:
        saved: The detector.
        source: Labelled rows; unlabelled ones count as normal.
        labels: The column with the labels; by default the one of the fit.
        names: Column of a table that names its rows.

    Raises:
        DataError: If the rows cannot be read or do not fit, or there are not labels of both kinds.
    """
    preprocess = saved.preprocess if labels is None else {**saved.preprocess, "labels": labels}
    scores, truth, top = [], [], HighestScores(saved)
    for block in read_further(source, preprocess, saved.words, labelled=True, names=names):
        scores.append(saved.detector.score(block.rows).numpy())
        truth.append((block.known == ANOMALY).numpy())
        top.add(block, scores[-1])
    if not scores:
        raise DataError(f"{source} has no rows.")
    every, anomalous = np.concatenate(scores), np.concatenate(truth)
    evaluation = evaluated(every, anomalous, saved.detector.threshold.value)
    return ScoredLabels(evaluation, every, anomalous, top.outstanding())


def none_for_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if value == value else None for name, value in values.items()}
