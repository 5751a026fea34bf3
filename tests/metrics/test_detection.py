"""Scores against labels: areas, intervals, thresholds."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from imbsam.errors import DataError
from imbsam.metrics import detection
from imbsam.metrics.detection import at_threshold, evaluated


def drawn(rows: int = 400, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    anomalous = draw.random(rows) < 0.1
    scores = draw.normal(size=rows) + 1.5 * anomalous
    return (np.round(scores, 1) if ties else scores), anomalous


class EveryRowOnce:
    def choice(self, side: np.ndarray, number: int) -> np.ndarray:
        return side


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_that_draws_every_row_once_has_the_areas_of_scikit_learn(ties: bool) -> None:
    scores, anomalous = drawn(ties=ties)
    low, high = detection._interval(scores, anomalous, EveryRowOnce())
    truth = roc_auc_score(anomalous, scores), average_precision_score(anomalous, scores)
    assert low == pytest.approx(truth, abs=1e-12)
    assert high == pytest.approx(truth, abs=1e-12)


def test_areas_lie_in_their_intervals_and_more_rows_narrow_them() -> None:
    widths = []
    for rows in (400, 6400):
        found = evaluated(*drawn(rows), 1.0)
        for estimate in (found.auroc, found.average_precision):
            assert estimate.low < estimate.value < estimate.high
        widths.append(found.auroc.high - found.auroc.low)
    assert widths[1] < widths[0] / 2


def test_the_same_seed_gives_the_same_interval() -> None:
    assert evaluated(*drawn(), 1.0, seed=3).auroc == evaluated(*drawn(), 1.0, seed=3).auroc
    assert evaluated(*drawn(), 1.0, seed=3).auroc != evaluated(*drawn(), 1.0, seed=4).auroc


def test_a_threshold_is_counted_by_hand() -> None:
    scores = np.array([0.1, 0.2, 0.5, 0.5, 0.9])
    anomalous = np.array([False, True, False, True, True])
    found = at_threshold(scores, anomalous, 0.2)
    assert (found.recall, found.precision, found.false_alarm_rate, found.alarms) == pytest.approx(
        (2 / 3, 2 / 3, 0.5, 600)
    )
    none = at_threshold(scores, anomalous, 1.0)
    assert (none.recall, none.alarms) == (0, 0)
    assert np.isnan(none.precision)


def test_the_trade_off_runs_from_few_alarms_to_every_anomaly() -> None:
    found = evaluated(*drawn(), 1.0)
    alarms = [at.alarms for at in found.trade_off]
    assert alarms == sorted(alarms)
    assert found.trade_off[-1].recall == 1


@pytest.mark.parametrize("anomalous", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_kind_of_rows_alone_cannot_be_evaluated(anomalous: np.ndarray) -> None:
    with pytest.raises(DataError, match="an evaluation needs both kinds"):
        evaluated(np.arange(5.0), anomalous, 1.0)
