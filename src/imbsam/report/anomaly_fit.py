"""Report of a fitted anomaly detector: its threshold, the scores of its rows, the rows to look at next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbsam.anomaly.labels import ANOMALY, UNLABELLED
from imbsam.anomaly.outstanding import HighestScores, Outstanding
from imbsam.anomaly.saved import SavedDetector
from imbsam.anomaly.sources import Block
from imbsam.report.anomaly import Fitted, histogram, top_table
from imbsam.report.page import write_page
from imbsam.report.tables import Cell, Table, versions_here
from imbsam.report.words import percent
from imbsam.storage.texts import printable


@dataclass(frozen=True)
class FitStudy:
    """Content of the report.

    Args:
        detector: Description of the detector.
        threshold: Threshold on the scores.
        scores: Scores of the rows of the fit, shape ``(N,)``.
        anomalous: The labelled anomalies, shape ``(N,)``.
        top: Rows with the highest scores that are not labelled.
        seconds: Time of the fit in seconds.
    """

    detector: Fitted
    threshold: float
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    top: Sequence[Outstanding]
    seconds: float

    @classmethod
    def of(cls, saved: SavedDetector, training: Block, seconds: float) -> "FitStudy":
        """Collect the content for a detector.

        Args:
            saved: The detector.
            training: Rows that it was fitted on.
            seconds: Time of the fit in seconds.
        """
        kinds, scores = training.known.numpy(), saved.detector.scores_of_fit(training.rows).numpy()
        top = HighestScores(saved)
        top.add(training, np.where(kinds == UNLABELLED, scores, -np.inf))
        threshold = saved.detector.threshold.value
        return cls(Fitted.of(saved), threshold, scores, kinds == ANOMALY, top.outstanding(), seconds)


def write_fit_report(folder: Path, study: FitStudy) -> Path:
    """Write ``fit.html`` and its figure.

    Args:
        folder: Folder to write to.
        study: Content of the report.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file cannot be written.
    """
    detector = study.detector
    unlabelled, anomalies, normal = detector.counts
    above = study.scores > study.threshold
    new = int((above & ~study.anomalous).sum())
    return write_page(
        folder,
        "fit.html",
        lambda: [
            histogram(
                study.scores,
                study.anomalous,
                study.threshold,
                name="fit-scores",
                anomalies="labelled anomalies",
                others="other rows",
            )
        ],
        {
            "title": f"{detector.objective} detector fitted on {printable(Path(detector.source).name)}",
            "answer": f"{detector.estimate[0].upper()}{detector.estimate[1:]}.",
            "sentences": [
                f"{new:,} rows that are not labelled anomalies score above it: the ones below are worth a look, and a "
                "label for the next fit.",
                "Scores of training rows are optimistic; labelled rows that the detector has not seen show how good "
                "it is: imbsam anomaly evaluate.",
            ],
            "facts": [
                ("data", printable(detector.source)),
                ("rows", f"{len(study.scores):,}"),
                ("labelled anomalies", f"{anomalies:,}"),
                ("unlabelled", f"{unlabelled:,}"),
                ("known to be normal", f"{normal:,}"),
                ("optimizer", detector.method),
                ("fitted in", f"{study.seconds:.1f} s"),
            ],
            "scores": _above(study, above),
            "classes": top_table(study.top, labels=False),
            "each": "Highest scores without a label",
            "versions": versions_here(),
        },
    )


def _above(study: FitStudy, above: NDArray[np.bool_]) -> Table:
    kinds = {"labelled anomalies": study.anomalous, "other rows": ~study.anomalous}
    return Table(
        f"Rows of the fit above the threshold, {study.threshold:.4g}",
        ["rows", "number", "above", "share"],
        [
            [
                Cell(name),
                Cell(f"{rows.sum():,}"),
                Cell(f"{(above & rows).sum():,}"),
                Cell(percent(float(above[rows].mean()))),
            ]
            for name, rows in kinds.items()
            if rows.any()
        ],
    )
