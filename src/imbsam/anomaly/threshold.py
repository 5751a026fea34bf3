"""Threshold on the scores above which a row is called an anomaly."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.notebook.tables import Cell, Share, facts

USUAL_SHARE = 0.1
"""Share of rows taken for anomalies without any labels, as in scikit-learn and PyOD."""


@dataclass(frozen=True)
class Threshold:
    """Threshold: a row is an anomaly if its score is greater than ``value``.

    Args:
        value: Threshold on the detector's scores.
        recall: Estimated share of anomalies found; NaN without held-out rows to estimate it on.
        false_alarm_rate: Estimated share of other rows called anomalies, on unlabelled rows: the anomalies among them
            count as false alarms, so the estimate is rather too high.
        anomalies: Number of held-out labelled anomalies of the estimates.
        others: Number of other held-out rows.
    """

    value: float
    recall: float = float("nan")
    false_alarm_rate: float = float("nan")
    anomalies: int = 0
    others: int = 0

    def facts(self) -> Sequence[tuple[str, Cell]]:
        """Return names and values for a notebook."""
        rates = [
            (f"anomalies found, on {self.anomalies:,} held-out ones", Share(self.recall)),
            (f"false alarms, on {self.others:,} held-out other rows", Share(self.false_alarm_rate)),
        ]
        return [("anomaly from score", self.value), *(rates if self.anomalies else ())]

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return facts("Threshold", self.facts())


def by_share(scores: Tensor, share: float) -> Threshold:
    """Set the threshold by the share of rows to call anomalies.

    Args:
        scores: Scores of the training rows, shape ``(N,)``.
        share: Share of the rows, in (0, 0.5].
    """
    return Threshold(float(quantile(scores, 1 - share)))


def calibrated(scores: Tensor, anomalous: Tensor) -> Threshold:
    """Find the threshold with the largest recall minus false-alarm rate (Youden's J) on held-out rows.

    Unlabelled anomalies among the other rows do not change it: they scale J equally at every threshold (Menon et al.
    2015, section 3). Among equal thresholds the highest is taken. It lies halfway between the lowest labelled anomaly
    found and the next lower row. Its estimates come from the rows that it was chosen on, so with few labelled anomalies
    the recall is optimistic.

    Args:
        scores: Scores of held-out rows, shape ``(N,)``.
        anomalous: Whether each row is a labelled anomaly, bool, shape ``(N,)``; at least one is, and one is not.
    """
    anomalies, others = scores[anomalous].sort().values, scores[~anomalous].sort().values
    candidates = torch.unique(anomalies)
    missed = torch.searchsorted(anomalies, candidates) / len(anomalies)
    alarms = 1 - torch.searchsorted(others, candidates) / len(others)
    gain = (1 - missed) - alarms
    best = int((gain == gain.max()).nonzero()[-1])
    lowest_found = float(candidates[best])
    below = scores[scores < lowest_found]
    value = (lowest_found + float(below.max())) / 2 if len(below) else lowest_found - 1.0
    if value >= lowest_found:
        value = float(below.max())
    return Threshold(value, 1 - float(missed[best]), float(alarms[best]), len(anomalies), len(others))


def quantile(scores: Tensor, share: float) -> Tensor:
    """Compute a quantile, linear between neighbours; unlike ``torch.quantile`` for any number of scores."""
    ordered = scores.double().sort().values
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)
