import math

import pytest

from imbsam.errors import RunError
from imbsam.report import summarise
from made_records import made_metrics, made_result

# Student's t, 97.5 % quantile, from a printed table.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571}


def result(label, seed, few=0.5, *, split="test", **scores):
    return made_result(label, seed, **{split: made_metrics(0.6, few=few, **scores)})


def interval(values):
    n, mean = len(values), sum(values) / len(values)
    deviation = 0.0
    for value in values:
        deviation += (value - mean) ** 2
    return mean, T_975[n - 1] * math.sqrt(deviation / (n - 1)) / math.sqrt(n)


def test_a_score_is_the_mean_over_seeds_with_its_t_interval():
    values = [0.61, 0.70, 0.64, 0.66]
    summary = summarise([result("sgd", seed, few) for seed, few in enumerate(values)])
    estimate = summary.scores["sgd"]["few"]
    mean, half_width = interval(values)
    assert estimate.mean == pytest.approx(mean, abs=1e-12)
    assert estimate.half_width == pytest.approx(half_width, rel=1e-3)
    assert estimate.n == 4


def test_differences_are_paired_by_seed_whatever_the_order_of_the_runs():
    sgd, sam = [0.5, 0.9, 0.1], [0.6, 1.0, 0.23]
    runs = [result("sgd", s, v) for s, v in enumerate(sgd)] + [result("sam", s, v) for s, v in enumerate(sam)]
    difference = summarise([runs[i] for i in (2, 0, 5, 1, 3, 4)]).differences["sam"]["few"]
    mean, half_width = interval([0.1, 0.1, 0.13])
    assert difference.mean == pytest.approx(mean, abs=1e-12)
    assert difference.half_width == pytest.approx(half_width, rel=1e-3)
    assert (difference.method, difference.baseline) == pytest.approx((1.83 / 3, 1.5 / 3))


def test_only_seeds_of_both_methods_enter_a_difference():
    runs = [result("sgd", 0, 0.4), result("sgd", 1, 0.9), result("sam", 0, 0.5), result("sam", 2, 0.1)]
    summary = summarise(runs)
    difference = summary.differences["sam"]["few"]
    assert (difference.n, difference.half_width) == (1, None)
    assert difference.mean == pytest.approx(0.1)
    assert (difference.method, difference.baseline) == (0.5, 0.4)
    assert summary.scores["sgd"]["few"].n == 2


def test_one_seed_has_a_mean_and_no_interval():
    estimate = summarise([result("sgd", 7, 0.25)]).scores["sgd"]["few"]
    assert (estimate.mean, estimate.half_width, estimate.n) == (0.25, None, 1)


def test_equal_seeds_have_an_interval_of_width_zero():
    assert summarise([result("sgd", 0), result("sgd", 1)]).scores["sgd"]["few"].half_width == 0


@pytest.mark.parametrize("absent", [None, math.nan])
def test_a_group_without_classes_in_one_seed_leaves_that_seed_out_of_this_measure_alone(absent):
    summary = summarise([result("sgd", 0, absent, overall=0.2), result("sgd", 1, 0.8, overall=0.4)])
    assert (summary.scores["sgd"]["few"].mean, summary.scores["sgd"]["few"].n) == (0.8, 1)
    assert summary.scores["sgd"]["overall"].mean == pytest.approx(0.3)


@pytest.mark.parametrize(("tail", "judged_by"), [({}, "tail"), ({"tail": None}, "balanced")])
def test_where_no_class_is_few_shot_the_tail_is_judged_by_and_else_balanced_accuracy(tail, judged_by):
    better = {judged_by: 0.9} | tail
    summary = summarise([result("sgd", 0, None, **tail), result("sam", 0, None, **better)])
    assert summary.scores["sgd"]["few"] is None
    assert summary.differences["sam"]["few"] is None
    assert (summary.primary, summary.leader) == (judged_by, "sam")


def test_the_validation_set_stands_in_only_where_no_run_has_a_test_set():
    alone = summarise([result("sgd", 0, 0.3, split="validation")])
    assert (alone.split, alone.scores["sgd"]["few"].mean) == ("validation", 0.3)
    mixed = summarise([result("sgd", 0, 0.3, split="validation"), result("sgd", 1, 0.7)])
    assert (mixed.split, mixed.scores["sgd"]["few"].mean, mixed.scores["sgd"]["few"].n) == ("test", 0.7, 1)


def test_the_first_given_label_is_the_baseline_even_without_a_run():
    summary = summarise([result("imbsam", 0), result("sam", 0)], labels=["sgd", "sam"])
    assert summary.labels == ("sgd", "sam", "imbsam")
    assert summary.scores["sgd"]["overall"] is None
    assert summary.differences["sam"]["overall"] is None


def test_the_leader_is_the_highest_in_few_shot_recall_but_never_the_baseline():
    runs = [result("sgd", 0, 0.9), result("sam", 0, 0.4), result("imbsam", 0, 0.6), result("asam", 0, 0.5)]
    assert summarise(runs).leader == "imbsam"
    assert summarise(runs[:1]).leader == "sgd"


def test_two_runs_of_one_label_and_seed_are_refused():
    with pytest.raises(RunError, match="two runs of sam have the seed 3"):
        summarise([result("sam", 3), result("sam", 3)])


def test_no_run_at_all_is_refused():
    with pytest.raises(RunError, match="no finished run"):
        summarise([])
