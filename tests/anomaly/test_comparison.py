"""Detectors compared: what is left out when, who sees what, who fails."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from imbsam.anomaly.comparison import compare_detectors, planned
from imbsam.anomaly.contenders import Contender, contenders
from imbsam.anomaly.labels import ANOMALY, NORMAL
from imbsam.data.seeding import generator
from imbsam.errors import DataError, OptionError, RunError


def rows_of(anomalies, others=60, normal=0):
    """A column that numbers the rows, and their kinds."""
    kinds = torch.zeros(anomalies + others, dtype=torch.long)
    kinds[: 3 * anomalies : 3] = ANOMALY
    kinds[-normal or len(kinds) :] = NORMAL
    return torch.arange(float(len(kinds)))[:, None], kinds


def noise(rows):
    return torch.rand(int(rows.max()) + 200, generator=generator(5))[rows[:, 0].long()].double().numpy()


def compared(rows, kinds, *detectors, repeats=1, **options):
    named = [Contender(f"d{number}", score) for number, score in enumerate(detectors)]
    return compare_detectors(rows, kinds, named, planned(kinds, repeats), seed=3, **options)


@pytest.mark.parametrize("anomalies", [2, 3, 5, 12])
def test_every_labelled_anomaly_is_left_out_once_in_every_repeat_and_never_learnt_from_then(anomalies):
    rows, kinds = rows_of(anomalies, normal=7)
    seen = []

    def spy(train, known, held, seed):
        assert not set(train.flatten().tolist()) & set(held.flatten().tolist())
        assert len(train) + len(held) == len(rows) == len(known) + len(held)
        assert 0 < int((known == ANOMALY).sum()) < len(known)
        seen.append((seed, held.flatten().tolist()))
        return noise(held)

    compared(rows, kinds, spy, lambda *a: noise(a[2]), repeats=2)
    for seed in (3, 4):
        held = [row for of, fold in seen if of == seed for row in fold]
        assert sorted(held) == list(range(len(rows)))
        assert len([1 for of, _ in seen if of == seed]) == min(5, anomalies)
    assert sorted(seen[0][1]) != sorted(seen[len(seen) // 2][1])


def test_scores_are_the_mean_areas_of_folds_and_differences_are_paired():
    rows, kinds = rows_of(10)
    folds = []

    def first(train, known, held, seed):
        truth = (kinds[held[:, 0].long()] == ANOMALY).numpy()
        folds.append((truth, noise(held)))
        return noise(held)

    found = compared(rows, kinds, first, lambda *a: -noise(a[2]), repeats=3)
    measures = zip(*[(average_precision_score(*fold), roc_auc_score(*fold)) for fold in folds], strict=True)
    # Ten anomalies are two a fold, so that the mean over folds is that over anomalies.
    assert [m.value for m in found.scores["d0"].values()] == pytest.approx([np.mean(m) for m in measures])
    for measure, difference in found.differences["d1"].items():
        expected = found.scores["d1"][measure].value - found.scores["d0"][measure].value
        assert difference.value == pytest.approx(expected)


def test_a_detector_that_fails_is_left_out_by_name_and_not_tried_again():
    rows, kinds = rows_of(4)
    tried = []

    def failing(*_):
        tried.append(1)
        raise MemoryError("no room\nfor it")

    found = compared(
        rows, kinds, failing, lambda *a: noise(a[2]), lambda *a: noise(a[2]) * np.nan, lambda *a: -noise(a[2])
    )
    assert found.failed == {"d0": "no room", "d2": "its scores are not finite."}
    assert found.labels == ("d1", "d3")
    assert len(tried) == 1
    with pytest.raises(RunError, match=r"1 of 2 detectors failed.*no room"):
        compared(rows, kinds, failing, lambda *a: noise(a[2]))


@pytest.mark.parametrize(("anomalies", "folds", "repeats"), [(2, 2, 5), (9, 5, 5), (10, 5, 3), (50, 5, 1)])
def test_fewer_labelled_anomalies_are_gone_over_more_often(anomalies, folds, repeats):
    plan = planned(rows_of(anomalies, 200)[1])
    assert (plan.folds, plan.repeats) == (folds, repeats)


@pytest.mark.parametrize(("anomalies", "said"), [(0, "no row is labelled"), (1, "1 row is labelled")])
def test_without_two_labelled_anomalies_nothing_is_compared(anomalies, said):
    with pytest.raises(DataError, match=said):
        planned(rows_of(anomalies)[1])


def test_too_few_other_rows_and_no_repeats_are_refused():
    with pytest.raises(DataError, match="3 rows are not labelled anomalies"):
        planned(torch.tensor([1, 1, 0, 0, 0]))
    with pytest.raises(OptionError, match="--seeds"):
        planned(rows_of(4)[1], 0)


def test_every_name_scores_the_rows_far_off_above_the_others():
    draw = generator(0)
    rows = torch.randn(80, 3, generator=draw)
    rows[:8] += 6
    kinds = torch.zeros(80, dtype=torch.long)
    kinds[:6] = ANOMALY
    names = ["default:steps=60", "hsc:method=sam,steps=60", "devnet:margin=4,trees=10,steps=60",
             "forest:n_estimators=20,min_samples_leaf=1", "boosting", "logistic:C=1", "isolation-forest"]  # fmt: skip
    for detector in contenders(names):
        scores = detector.score(rows[2:], kinds[2:], rows, 0)
        assert roc_auc_score(np.arange(80) < 8, scores) > 0.9, detector.label
        again = detector.score(rows[2:], kinds[2:], rows, 0)
        assert np.array_equal(scores, again)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["forest", "oak"], "oak: there is no detector 'oak'; there are default, hsc"),
        (["forest", "hsc:trees=3"], "there is no option 'trees'"),
        (["default", "default:rho=-1"], "rho"),
        (["default", "default:method=none"], "none"),
        (["default", "forest:random_state=3"], "random_state"),
        (["default", "forest:n_estimators"], "not NAME=VALUE"),
        (["forest", "forest"], "different"),
        (["forest"], "at least two"),
    ],
)
def test_names_and_options_that_are_not_are_refused(labels, said):
    with pytest.raises(OptionError, match=said):
        contenders(labels)
