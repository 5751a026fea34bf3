"""From which score on a row is called an anomaly."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.notebook.tables import Cell, Share, facts

USUAL_SHARE = 0.1
"""Share of rows taken for anomalies where nothing is known of them, as in scikit-learn and PyOD."""


@dataclass(frozen=True)
class Threshold:
    """A row is an anomaly where its score is greater than ``value``.

    Args:
        value: On the detector's scores.
        recall: Share of anomalies found, as estimated; NaN where nothing was held out to estimate it with.
        false_alarm_rate: Share of other rows called anomalies, as estimated on unlabelled rows: the anomalies among
            them count as false alarms, so it errs on the high side.
        anomalies: Held-out labelled anomalies that the estimates rest on.
        others: Held-out other rows.
    """

    value: float
    recall: float = float("nan")
    false_alarm_rate: float = float("nan")
    anomalies: int = 0
    others: int = 0

    def facts(self) -> Sequence[tuple[str, Cell]]:
        """What a notebook shows of it, name and value."""
        rates = [
            (f"anomalies found, on {self.anomalies:,} held-out ones", Share(self.recall)),
            (f"false alarms, on {self.others:,} held-out other rows", Share(self.false_alarm_rate)),
        ]
        return [("anomaly from score", self.value), *(rates if self.anomalies else ())]

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return facts("Threshold", self.facts())


def by_share(scores: Tensor, share: float) -> Threshold:
    """Call this share of the rows anomalies.

    Args:
        scores: Of the training rows, shape ``(N,)``.
        share: In (0, 0.5].
    """
    return Threshold(float(quantile(scores, 1 - share)))


def calibrated(scores: Tensor, anomalous: Tensor) -> Threshold:
    """The threshold with the largest recall minus false-alarm rate (Youden's J) on held-out rows.

    Unlabelled anomalies among the other rows do not move it: they scale J at every threshold alike
    (Menon et al. 2015, section 3). Of equal thresholds it takes the highest. It lies halfway between the lowest
    labelled anomaly it finds and the next lower row. The estimates are those of the chosen threshold on the rows it
    was chosen by, so with few labelled anomalies the recall is optimistic.

    Args:
        scores: Of held-out rows, shape ``(N,)``.
        anomalous: Which of them are labelled anomalies, bool, shape ``(N,)``; some, and not all.
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
    """Linear between neighbours; unlike ``torch.quantile`` it takes any number of scores."""
    ordered = scores.double().sort().values
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)
