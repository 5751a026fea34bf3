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
from imbsam.data.sources.raw import NOTHING_ASKED, Request
from imbsam.errors import DataError
from imbsam.metrics.detection import Evaluation, evaluated
from imbsam.storage.files import harmless, written_aside


@dataclass(frozen=True)
class ScoredRows:
    """What was scored.

    Args:
        rows: How many.
        alarms: How many of them are called anomalies.
        notes: What could not be read, was filled in or ignored, a sentence each.
    """

    rows: int
    alarms: int
    notes: list[str]


def write_scores(
    saved: SavedDetector, source: str, out: Path, *, names: str | None = None, request: Request = NOTHING_ASKED
) -> ScoredRows:
    """Write name, score and whether it is an anomaly of each row, some rows at a time.

    Args:
        saved: The detector.
        source: The rows.
        out: The CSV, which is there whole or as it was before.
        names: Column of a table that names its rows.
        request: How a table is written.

    Returns:
        How many rows there are, and what is to be said of them.

    Raises:
        DataError: If the rows cannot be read or do not fit.
        RunError: If the file cannot be written.
    """
    rows, alarms = 0, 0
    notes: list[str] = []
    with written_aside(out) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([harmless(names or "row"), "score", "anomaly"])
        for block in read_further(source, saved.preprocess, saved.words, names=names, request=request, notes=notes):
            scores = saved.detector.score(block.rows)
            called = scores > saved.detector.threshold.value
            writer.writerows(
                zip(map(harmless, block.names), map(repr, scores.tolist()), called.int().tolist(), strict=True)
            )
            rows += len(scores)
            alarms += int(called.sum())
        text.detach()
    if not rows:
        raise DataError(f"{source} has no rows.")
    return ScoredRows(rows, alarms, notes)


@dataclass(frozen=True)
class ScoredLabels:
    """The scores of labelled rows.

    Args:
        evaluation: Scores against labels.
        scores: Scores, shape ``(N,)``.
        anomalous: Shape ``(N,)``.
        top: Rows with the highest scores.
        notes: What could not be read, was filled in or ignored, a sentence each.
    """

    evaluation: Evaluation
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    top: list[Outstanding]
    notes: list[str]

    def numbers(self) -> dict[str, object]:
        """The evaluation without its curves, JSON-able."""
        found = self.evaluation
        return {
            "rows": found.rows,
            "anomalies": found.anomalies,
            "auroc": asdict(found.auroc),
            "average_precision": asdict(found.average_precision),
            "at_threshold": none_for_nan(asdict(found.chosen)),
            "notes": self.notes,
            "trade_off": [none_for_nan(asdict(at)) for at in found.trade_off],
        }


def evaluate(
    saved: SavedDetector,
    source: str,
    *,
    labels: str | None = None,
    names: str | None = None,
    request: Request = NOTHING_ASKED,
) -> ScoredLabels:
    """Compare scores with labels.

    Args:
        saved: The detector.
        source: Labelled rows; unlabelled ones count as normal.
        labels: The column with the labels; by default the one of the fit.
        names: Column of a table that names its rows.
        request: How a table is written.

    Raises:
        DataError: If the rows cannot be read or do not fit, or there are not labels of both kinds.
    """
    preprocess = saved.preprocess if labels is None else {**saved.preprocess, "labels": labels}
    scores, truth, top = [], [], HighestScores(saved)
    notes: list[str] = []
    blocks = read_further(source, preprocess, saved.words, labelled=True, names=names, request=request, notes=notes)
    for block in blocks:
        scores.append(saved.detector.score(block.rows).numpy())
        truth.append((block.known == ANOMALY).numpy())
        top.add(block, scores[-1])
    if not scores:
        raise DataError(f"{source} has no rows.")
    every, anomalous = np.concatenate(scores), np.concatenate(truth)
    evaluation = evaluated(every, anomalous, saved.detector.threshold.value)
    return ScoredLabels(evaluation, every, anomalous, top.outstanding(), notes)


def none_for_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if value == value else None for name, value in values.items()}
