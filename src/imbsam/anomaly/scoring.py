"""Saved detector applied to files: scores as CSV, and scores against labels."""

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
    """Summary of scored rows.

    Args:
        rows: Number of rows.
        alarms: Number of rows called anomalies.
        notes: Sentences that say what could not be read, was filled in or ignored.
    """

    rows: int
    alarms: int
    notes: list[str]


def write_scores(
    saved: SavedDetector, source: str, out: Path, *, names: str | None = None, request: Request = NOTHING_ASKED
) -> ScoredRows:
    """Write name, score and label of each row, in blocks.

    Args:
        saved: The detector.
        source: The rows.
        out: CSV file, which is replaced as a whole.
        names: Column of a table that names its rows.
        request: Options of reading a table.

    Returns:
        Summary of the rows.

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
    """Scores of labelled rows.

    Args:
        evaluation: Scores against labels.
        scores: Scores, shape ``(N,)``.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.
        top: Rows with the highest scores.
        notes: Sentences that say what could not be read, was filled in or ignored.
    """

    evaluation: Evaluation
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    top: list[Outstanding]
    notes: list[str]

    def numbers(self) -> dict[str, object]:
        """Evaluation without its curves, as JSON values."""
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
        labels: Column with the labels; by default that of the fit.
        names: Column of a table that names its rows.
        request: Options of reading a table.

    Raises:
        DataError: If the rows cannot be read or do not fit, or labels of one kind are missing.
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
    """Return a number, or None for NaN, which JSON does not have."""
    return {name: value if value == value else None for name, value in values.items()}
