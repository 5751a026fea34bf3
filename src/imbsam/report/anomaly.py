"""Report of an anomaly detector against labels: areas, curves, histograms, thresholds, rows with high scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbsam.anomaly.core import Detector
from imbsam.anomaly.outstanding import Outstanding
from imbsam.anomaly.saved import SavedDetector
from imbsam.metrics.detection import AtThreshold, Evaluation, WithInterval
from imbsam.report.drawing import COLOURS, FIGURE_WIDTH, INK, Picture, points_to_hover
from imbsam.report.page import write_page
from imbsam.report.tables import NOTHING, Cell, Table, versions_here
from imbsam.report.words import percent
from imbsam.storage.texts import printable

ANOMALIES, OTHERS = COLOURS[2], COLOURS[0]
CURVE = COLOURS[1]
MOST_POINTS = 2000
"""Largest number of points of a curve; more cannot be distinguished on a page."""


@dataclass(frozen=True)
class Fitted:
    """Description of the detector in a report.

    Args:
        objective: Objective that it was trained for.
        method: Method of its training.
        source: Source that it was fitted on.
        counts: Rows of the fit: unlabelled, anomalies, normal.
        estimate: Sentence on its threshold, without a full stop.
    """

    objective: str
    method: str
    source: str
    counts: tuple[int, int, int]
    estimate: str

    @classmethod
    def of(cls, saved: SavedDetector) -> "Fitted":
        """Describe a saved detector."""
        detector = saved.detector
        method, estimate = detector.settings.method, about_threshold(detector)
        return cls(detector.objective, method, saved.source, saved.counts, estimate)


@dataclass(frozen=True)
class AnomalyStudy:
    """Content of the report.

    Args:
        detector: Detector that gave the scores.
        source: The labelled data.
        evaluation: Scores against labels.
        scores: Scores, shape ``(N,)``.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.
        top: Rows with the highest scores.
    """

    detector: Fitted
    source: str
    evaluation: Evaluation
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    top: Sequence[Outstanding]


def about_threshold(detector: Detector) -> str:
    """Describe a detector's threshold in a sentence without a full stop."""
    threshold = detector.threshold
    if threshold.anomalies:
        return (
            f"threshold {threshold.value:.4g}: estimated to find {100 * threshold.recall:.1f} % of the anomalies, "
            f"with false alarms on {100 * threshold.false_alarm_rate:.1f} % of the other rows "
            f"(held out: {threshold.anomalies} labelled anomalies, {threshold.others} other rows)"
        )
    share = detector.settings.contamination
    how = "10 %, the usual share" if share == "auto" else f"{100 * float(share):.1f} %"
    return f"threshold {threshold.value:.4g}: calls {how} of the training rows anomalies; nothing was estimated"


def write_anomaly_report(folder: Path, study: AnomalyStudy) -> Path:
    """Write ``report.html`` and its figures.

    Args:
        folder: Folder to write to.
        study: Content of the report.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file cannot be written.
    """
    found = study.evaluation
    chosen = found.chosen
    unlabelled, anomalies, normal = study.detector.counts
    right = (
        f", and {percent(chosen.precision)} of its alarms are anomalies" if chosen.alarms else ", with no alarm at all"
    )
    return write_page(
        folder,
        "report.html",
        lambda: [
            _curves(found),
            histogram(
                study.scores,
                study.anomalous,
                chosen.threshold,
                name="scores",
                anomalies="anomalies",
                others="other rows",
            ),
            _trade_off(found),
        ],
        {
            "title": f"{study.detector.objective} detector on {printable(Path(study.source).name)}",
            "answer": f"At its threshold the detector finds {percent(chosen.recall)} of the anomalies{right}.",
            "sentences": [
                f"AUROC {_interval(found.auroc)}: how often an anomaly scores above another row.",
                f"Average precision {_interval(found.average_precision)}; chance: {found.anomalies / found.rows:.3f}.",
                f"{chosen.alarms:.1f} alarms in 1,000 rows; false alarms on {percent(chosen.false_alarm_rate)} of the "
                "other rows.",
                f"In the fit: {study.detector.estimate}.",
            ],
            "facts": [
                ("data", printable(study.source)),
                ("rows", f"{found.rows:,}"),
                ("anomalies", f"{found.anomalies:,} ({percent(found.anomalies / found.rows)})"),
                ("fitted on", printable(study.detector.source)),
                ("labels of the fit", f"{anomalies:,} anomalies, {unlabelled:,} unlabelled, {normal:,} normal"),
                ("optimizer", study.detector.method),
            ],
            "scores": _thresholds(found),
            "classes": top_table(study.top),
            "each": "Highest scores",
            "versions": versions_here(),
        },
    )


def _interval(estimate: WithInterval) -> str:
    return f"{estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f}, bootstrap)"


def _thresholds(found: Evaluation) -> Table:
    rows = sorted([(False, t) for t in found.trade_off] + [(True, found.chosen)], key=lambda row: -row[1].threshold)

    def cells(chosen: bool, at: AtThreshold) -> list[Cell]:
        values = [
            percent(at.recall),
            NOTHING if at.alarms == 0 else percent(at.precision),
            percent(at.false_alarm_rate),
        ]
        texts = [f"{at.threshold:.4g}{' (the detector’s)' if chosen else ''}", *values, f"{at.alarms:.1f}"]
        return [Cell(text, strong=chosen) for text in texts]

    return Table(
        "Thresholds: share of the anomalies found, share of alarms that are anomalies, share of other rows that "
        "give an alarm, and alarms in 1,000 rows",
        ["threshold", "recall", "precision", "false alarms", "alarms in 1,000"],
        [cells(chosen, at) for chosen, at in rows],
    )


def top_table(rows: Sequence[Outstanding], *, labels: bool = True) -> Table:
    """Make the table of the rows with the highest scores, and the columns that contribute most."""

    def shown(row: Outstanding) -> str:
        parts = [f"{printable(name)} = {printable(value)} ({loss:+.3g})" for name, value, loss in row.columns]
        return ", ".join(parts) or NOTHING

    return Table(
        "Rows with the highest scores. Columns: those whose replacement by the median of the fit lowers the score "
        "most, and by how much",
        ["row", "score", *(["label"] if labels else []), "columns that contribute most"],
        [
            [
                Cell(printable(row.name)),
                Cell(f"{row.score:.4g}", key=row.score),
                *([Cell("anomaly" if row.anomaly else "other", strong=row.anomaly)] if labels else []),
                Cell(shown(row)),
            ]
            for row in rows
        ],
    )


def _curves(found: Evaluation) -> Picture:
    figure = Figure(figsize=(FIGURE_WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    chosen = found.chosen
    tips: dict[str, Sequence[str]] = {}
    for axis, curve, point, labels in (
        (left, found.roc, (chosen.false_alarm_rate, chosen.recall), ("false-alarm rate", "recall")),
        (right, found.precision_recall, (chosen.recall, chosen.precision), ("recall", "precision")),
    ):
        kept = curve[np.unique(np.linspace(0, len(curve) - 1, MOST_POINTS).astype(int))]
        axis.step(kept[:, 0], kept[:, 1], color=CURVE, where="post")
        axis.plot(*point, marker="o", color=INK, markersize=7, linestyle="none", label="threshold")
        words = f"{labels[0]} {{:.3f}}, {labels[1]} {{:.3f}}"
        tips |= points_to_hover(axis, *kept.T[:2], gid=f"{labels[1]}-curve", colour=CURVE, label="curve", words=words)
        axis.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    left.plot([0, 1], [0, 1], color=OTHERS, linewidth=1, linestyle="--")
    right.axhline(found.anomalies / found.rows, color=OTHERS, linewidth=1, linestyle="--")
    left.set_title(f"ROC, area {found.auroc.value:.3f}")
    right.set_title(f"Precision-recall, {found.average_precision.value:.3f}")
    return Picture(
        name="curves",
        title="ROC and precision-recall curves",
        alt=f"ROC curve with area {found.auroc.value:.3f}; precision-recall curve with average precision "
        f"{found.average_precision.value:.3f}.",
        caption="The dot is the detector's threshold, the dashed line chance.",
        figure=figure,
        tips=tips,
    )


def histogram(
    scores: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    threshold: float,
    *,
    name: str,
    anomalies: str,
    others: str,
) -> Picture:
    """Draw a histogram of the scores of anomalies and of the others.

    Args:
        scores: Scores, shape ``(N,)``.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.
        threshold: Threshold of the detector.
        name: Name of the picture's file.
        anomalies: Name of the anomalies.
        others: Name of the others.

    Returns:
        The picture.
    """
    figure = Figure(figsize=(FIGURE_WIDTH, 3.4), layout="constrained")
    axis: Axes = figure.subplots()
    # A few extreme scores would leave all others in one bar.
    low, high = np.quantile(scores, [0.001, 0.999])
    high = max(high, threshold)
    tips: dict[str, Sequence[str]] = {}
    bins = np.linspace(low, high if high > low else low + 1, 50).tolist()
    for kind, rows, colour, label in (("b", ~anomalous, OTHERS, others), ("a", anomalous, ANOMALIES, anomalies)):
        counts, edges = np.histogram(scores[rows].clip(low, high), bins)
        bars = axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, alpha=0.75, label=label)
        for place, bar in enumerate(bars):
            if counts[place]:
                bar.set_gid(f"{kind}{place}")
                said = f"{counts[place]} {label}, score {edges[place]:.3g} to {edges[place + 1]:.3g}"
                tips[f"{kind}{place}"] = [said]
    axis.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label="threshold")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="score", ylabel="rows (log scale)")
    axis.set_title("Scores")
    axis.legend(loc="upper right", fontsize=10)
    found = ((anomalies, scores[anomalous]), (others, scores[~anomalous]))
    medians = [f"{label} have a median of {np.median(own):.3g}" for label, own in found if len(own)]
    return Picture(
        name=name,
        title=f"Scores of {anomalies} and {others}",
        alt=f"Histogram of scores; {', '.join(medians)}.",
        caption="The lowest and highest 0.1 % are drawn in the outer bars.",
        figure=figure,
        tips=tips,
    )


def _trade_off(found: Evaluation) -> Picture:
    figure = Figure(figsize=(FIGURE_WIDTH, 3.4), layout="constrained")
    axis: Axes = figure.subplots()
    points = sorted(found.trade_off, key=lambda at: at.alarms)
    alarms = [at.alarms for at in points]
    axis.plot(alarms, [100 * at.recall for at in points], color=CURVE, marker="o", label="recall", gid="recall")
    axis.plot(
        alarms, [100 * at.precision for at in points], color=ANOMALIES, marker="^", label="precision", gid="precision"
    )
    at_each = [
        f"threshold {at.threshold:.4g}: {at.alarms:.1f} alarms in 1,000, recall {percent(at.recall)}, precision "
        f"{percent(at.precision)}"
        for at in points
    ]
    axis.axvline(found.chosen.alarms, color=INK, linewidth=1.2, linestyle="--", label="threshold")
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="alarms in 1,000 rows (log scale)", ylabel="%", ylim=(-3, 103))
    axis.set_title("Recall and precision against alarms")
    axis.legend(loc="center right", fontsize=10)
    return Picture(
        name="trade_off",
        title="Recall and precision by alarms",
        alt=f"Recall rises from {percent(points[0].recall)} at {points[0].alarms:.1f} alarms in 1,000 rows to "
        f"{percent(points[-1].recall)} at {points[-1].alarms:.1f}.",
        caption="Each point is a threshold of the table above.",
        figure=figure,
        tips={"recall": at_each, "precision": at_each},
    )
