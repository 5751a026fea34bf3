"""Metrics of scores that separate anomalies from other rows: areas with intervals, curves, costs of thresholds."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from imbsam.errors import DataError
from imbsam.notebook.tables import Cell, Share, facts

RESAMPLES = 500
"""Resamples of the bootstrap behind an interval."""

LARGE = 100_000
"""Number of rows from which a fifth of the resamples is enough."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WithInterval:
    """Number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AtThreshold:
    """Result of calling every row above a score an anomaly.

    Args:
        threshold: Score above which a row is called an anomaly.
        recall: Share of the anomalies that are found.
        precision: Share of anomalies among the rows called anomalies; NaN where there are none.
        false_alarm_rate: Share of the other rows that are called anomalies.
        alarms: Rows called anomalies among 1,000 rows.
    """

    threshold: float
    recall: float
    precision: float
    false_alarm_rate: float
    alarms: float


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of scores against the truth.

    Args:
        rows: Number of rows.
        anomalies: Number of anomalies among them.
        auroc: Area under the ROC curve.
        average_precision: Area under the precision-recall curve, by steps.
        chosen: Results at the detector's threshold.
        trade_off: Results at thresholds from few alarms to many.
        roc: False-alarm rate and recall, shape ``(n, 2)``.
        precision_recall: Recall and precision, shape ``(n, 2)``.
    """

    rows: int
    anomalies: int
    auroc: WithInterval
    average_precision: WithInterval
    chosen: AtThreshold
    trade_off: tuple[AtThreshold, ...] = field(repr=False)
    roc: Floats = field(repr=False)
    precision_recall: Floats = field(repr=False)

    def _repr_html_(self) -> str:
        """A table for notebooks."""

        def text(found: WithInterval) -> str:
            return f"{Share(found.value)} (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f})"

        rows: list[tuple[str, Cell]] = [
            ("AUROC", text(self.auroc)),
            ("average precision", text(self.average_precision)),
            ("recall at the threshold", Share(self.chosen.recall)),
            ("precision there", Share(self.chosen.precision)),
            ("false alarms there", Share(self.chosen.false_alarm_rate)),
        ]
        return facts(f"{self.anomalies:,} anomalies among {self.rows:,} rows", rows)


def evaluated(scores: Floats, anomalous: NDArray[np.bool_], threshold: float, *, seed: int = 0) -> Evaluation:
    """Evaluate scores against the truth.

    Intervals are percentiles of a bootstrap that draws anomalies and other rows separately, so that each draw has both.

    Args:
        scores: Score of each row, shape ``(N,)``; higher is more anomalous.
        anomalous: Whether each row is an anomaly, shape ``(N,)``.
        threshold: Threshold of the detector.
        seed: Seed of the bootstrap.

    Raises:
        DataError: If there is no anomaly, or every row is one.
    """
    found = int(anomalous.sum())
    if found in (0, len(anomalous)):
        raise DataError(f"{found} of {len(anomalous)} rows are anomalies: an evaluation needs both kinds.")
    low, high = _interval(scores, anomalous, np.random.default_rng(seed))
    values = float(roc_auc_score(anomalous, scores)), float(average_precision_score(anomalous, scores))
    auroc, precision = (WithInterval(*numbers) for numbers in zip(values, low, high, strict=True))
    false_alarms, recall, _ = roc_curve(anomalous, scores)
    precisions, recalls, _ = precision_recall_curve(anomalous, scores)
    # From the anomalies' own scores, where recall changes: the thresholds worth choosing.
    steps = np.unique(np.quantile(scores[anomalous], np.linspace(0, 0.95, 20), method="lower"))
    return Evaluation(
        len(scores),
        found,
        auroc,
        precision,
        at_threshold(scores, anomalous, threshold),
        tuple(at_threshold(scores, anomalous, float(np.nextafter(step, -np.inf))) for step in steps[::-1]),
        np.stack([false_alarms, recall], axis=1),
        np.stack([recalls, precisions], axis=1),
    )


def at_threshold(scores: Floats, anomalous: NDArray[np.bool_], threshold: float) -> AtThreshold:
    """Call every row above the threshold an anomaly, and count the errors."""
    called = scores > threshold
    right = int((called & anomalous).sum())
    return AtThreshold(
        threshold,
        right / max(1, int(anomalous.sum())),
        right / int(called.sum()) if called.any() else float("nan"),
        int((called & ~anomalous).sum()) / max(1, int((~anomalous).sum())),
        1000 * float(called.mean()),
    )


def _interval(
    scores: Floats, anomalous: NDArray[np.bool_], draw: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Compute lower and upper ends of the intervals of AUROC and average precision."""
    order = np.argsort(-scores, kind="stable")
    ordered, truth = scores[order], anomalous[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    sides = np.flatnonzero(truth), np.flatnonzero(~truth)
    areas = []
    for _ in range(RESAMPLES if len(scores) <= LARGE else RESAMPLES // 5):
        # How often each row is drawn, instead of the rows themselves: the order stays.
        hits, misses = (np.bincount(draw.choice(side, len(side)), minlength=len(truth)) for side in sides)
        found, alarms = hits.cumsum()[last_of_ties], misses.cumsum()[last_of_ties]
        steps = np.diff(found, prepend=0)
        auroc = float((np.diff(alarms, prepend=0) * (found - steps / 2)).sum() / (found[-1] * alarms[-1]))
        called = np.maximum(1, found + alarms)
        areas.append((auroc, float((steps * found / called).sum() / found[-1])))
    low, high = np.percentile(np.array(areas), [2.5, 97.5], axis=0).tolist()
    return (low[0], low[1]), (high[0], high[1])
