import math

import numpy as np
import pytest
import torch

from imbsam.anomaly.threshold import by_share, calibrated, quantile


def youden(scores, anomalous, value):
    anomalies = [s for s, a in zip(scores, anomalous, strict=True) if a]
    others = [s for s, a in zip(scores, anomalous, strict=True) if not a]
    recall = sum(s > value for s in anomalies) / len(anomalies)
    alarms = sum(s > value for s in others) / len(others)
    return recall, alarms


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_more_recall_less_false_alarms_and_the_estimates_are_its_own(seed):
    rng = np.random.default_rng(seed)
    anomalous = np.arange(60) < 6
    scores = rng.normal(size=60).round(1) + anomalous
    chosen = calibrated(torch.tensor(scores), torch.tensor(anomalous))
    recall, alarms = youden(scores, anomalous, chosen.value)
    assert (recall, alarms) == pytest.approx((chosen.recall, chosen.false_alarm_rate))
    best = max(r - a for r, a in (youden(scores, anomalous, v) for v in [*scores, -9.0]))
    assert recall - alarms == pytest.approx(best)
    assert (chosen.anomalies, chosen.others) == (6, 54)


def test_where_the_two_are_apart_the_threshold_is_halfway_between_them():
    chosen = calibrated(torch.tensor([0.0, 1.0, 2.0, 4.0, 9.0]), torch.tensor([False, False, False, True, True]))
    assert (chosen.value, chosen.recall, chosen.false_alarm_rate) == (3.0, 1.0, 0.0)


def test_an_anomaly_below_all_other_rows_is_found_by_calling_all_rows_anomalies():
    chosen = calibrated(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([True, False, False]))
    assert (chosen.value, chosen.recall, chosen.false_alarm_rate) == (-1.0, 1.0, 1.0)


def test_neighbouring_floats_are_told_apart():
    high = math.nextafter(1.0, 2.0)
    chosen = calibrated(torch.tensor([1.0, high], dtype=torch.float64), torch.tensor([False, True]))
    assert 1.0 <= chosen.value < high


def test_anomalies_among_the_other_rows_do_not_move_the_threshold():
    rng = np.random.default_rng(0)
    labelled, hidden, normal = rng.normal(2, 1, 400), rng.normal(2, 1, 400), rng.normal(0, 1, 4000)
    clean = calibrated(torch.tensor(np.r_[labelled, normal]), torch.arange(4400) < 400)
    mixed = calibrated(torch.tensor(np.r_[labelled, hidden, normal]), torch.arange(4800) < 400)
    assert mixed.value == pytest.approx(clean.value, abs=0.15)
    assert mixed.false_alarm_rate > clean.false_alarm_rate


@pytest.mark.parametrize("share", [0.01, 0.1, 0.27, 0.5])
def test_a_share_calls_that_many_rows_anomalies(share):
    scores = torch.randn(300)
    assert int((scores > by_share(scores.double(), share).value).sum()) == round(300 * share)
    assert math.isnan(by_share(scores, share).recall)


@pytest.mark.parametrize("share", [0.0, 0.123, 0.5, 0.9, 1.0])
def test_a_quantile_is_numpys(share):
    scores = torch.randn(37, dtype=torch.float64)
    assert float(quantile(scores, share)) == pytest.approx(np.quantile(scores.numpy(), share))
