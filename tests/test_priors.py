"""Class priors: counting, the rules of the tail, shot groups, and what is refused."""

import doctest
import math
import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import imbsam.priors
from imbsam.errors import PriorsError, PriorsWarning
from imbsam.priors import ClassPriors

LONG_TAIL = ClassPriors.from_counts([500, 200, 80, 30, 12, 5, 5])

counts_of_classes = st.lists(st.integers(0, 400), min_size=1, max_size=12).filter(any)


def marked(mask: torch.Tensor) -> list[int]:
    assert mask.dtype == torch.bool
    return mask.nonzero().squeeze(1).tolist()


def test_the_docstrings_example_runs() -> None:
    result = doctest.testmod(imbsam.priors)
    assert result.attempted >= 4
    assert result.failed == 0


# Counting


@pytest.mark.parametrize(
    "targets",
    [
        [0, 2, 2, 4],
        torch.tensor([0, 2, 2, 4]),
        torch.tensor([0, 2, 2, 4], dtype=torch.uint8),
        torch.tensor([0.0, 2.0, 2.0, 4.0]),
        torch.tensor([0, 2, 2, 4]).numpy(),
        (4, 2, 0, 2),
    ],
    ids=["list", "tensor", "uint8", "whole floats", "numpy", "tuple"],
)
def test_targets_are_counted(targets: object) -> None:
    priors = ClassPriors.from_targets(targets)
    assert priors.counts.tolist() == [1, 0, 2, 0, 1]
    assert priors.counts.dtype == torch.int64
    assert priors.num_classes == 5
    assert priors.total == 4


def test_classes_without_a_sample_are_counted_when_named() -> None:
    assert ClassPriors.from_targets([0, 1, 1], num_classes=4).counts.tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("targets", "num_classes", "message"),
    [
        ([], None, r"N > 0; got \(0,\)"),
        (torch.zeros(2, 2, dtype=torch.long), None, r"one class per sample.*\(2, 2\)"),
        (torch.tensor(3), None, "one class per sample"),
        ([0.5, 1.0], None, "got fractions"),
        ([math.nan, 1.0], None, "integer class indices"),
        ([math.inf, 1.0], None, "integer class indices"),
        ([-1, 2], None, "the lowest is -1"),
        ([0, 5], 5, r"target 5 is outside the 5 classes \(0..4\)"),
        (["cat", "dog"], None, r"targets must be integers.*\['cat', 'dog'\]"),
        ([None, 1], None, "targets must be integers"),
        ([[0, 1], [2]], None, "targets must be integers"),
    ],
)
def test_targets_that_are_no_classes_are_refused(targets: object, num_classes: int | None, message: str) -> None:
    with pytest.raises(PriorsError, match=message):
        ClassPriors.from_targets(targets, num_classes)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "one number per class"),
        ([[1, 2]], "one number per class"),
        ([0, 0], "all zero"),
        ([3, -2], "class 1 has -2"),
        ([1.5, 2.0], "counts must be integers"),
        ([math.inf, 2.0], "counts must be integers"),
        ([math.nan, 2.0], "counts must be integers"),
        (["many"], "counts must be integers"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: list[object], message: str) -> None:
    with pytest.raises(PriorsError, match=message):
        ClassPriors.from_counts(counts)


@settings(max_examples=50)
@given(counts_of_classes)
def test_shares_are_counts_over_their_sum(counts: list[int]) -> None:
    priors = ClassPriors.from_counts(counts)
    assert priors.priors.dtype == torch.float64
    assert priors.priors.tolist() == [n / sum(counts) for n in counts]
    assert priors.log_priors.tolist() == pytest.approx([math.log(n / sum(counts)) if n else -math.inf for n in counts])
    present = [n for n in counts if n]
    assert priors.imbalance_factor == max(present) / min(present)


def test_the_counts_are_the_priors_own_after_targets() -> None:
    targets = torch.tensor([0, 1, 1])
    priors = ClassPriors.from_targets(targets)
    targets[:] = 0
    assert priors.counts.tolist() == [1, 2]


def test_the_name_tells_the_size() -> None:
    assert repr(LONG_TAIL) == "ClassPriors(7 classes, 832 samples, imbalance factor 100)"


# Shot groups


def test_shot_groups_keep_their_bounds_in_the_middle() -> None:
    priors = ClassPriors.from_counts([101, 100, 20, 19, 0])
    assert priors.shot_groups() == ("many", "medium", "medium", "few", "few")
    assert priors.shot_groups(many_above=19, few_below=20) == ("many", "many", "many", "few", "few")
    assert priors.shot_groups(many_above=99, few_below=1) == ("many", "many", "medium", "medium", "few")


def test_shot_groups_that_overlap_are_refused() -> None:
    with pytest.raises(PriorsError, match="few_below=21 overlaps many_above=19: choose few_below <= many_above"):
        LONG_TAIL.shot_groups(many_above=19, few_below=21)


# The tail


@pytest.mark.parametrize(
    ("rule", "tail"),
    [
        ({"fewer_than": 12}, [5, 6]),
        ({"fewer_than": 13}, [4, 5, 6]),
        ({"rarest_classes": 0.4}, [4, 5, 6]),
        ({"rarest_classes": 0.01}, [5, 6]),
        ({"rarest_samples": 0.03}, [4, 5, 6]),
        ({"rarest_samples": 22 / 832}, [4, 5, 6]),
        ({"rarest_samples": 0.02}, [5, 6]),
        ({"classes": [6, 0]}, [0, 6]),
        ({"classes": torch.tensor([1, 2])}, [1, 2]),
        ({"classes": torch.tensor([1]).numpy()}, [1]),
    ],
    ids=str,
)
def test_a_rule_marks_its_classes(rule: dict[str, object], tail: list[int]) -> None:
    assert marked(LONG_TAIL.tail(**rule)) == tail


def test_a_class_without_a_sample_is_in_the_tail() -> None:
    assert marked(ClassPriors.from_counts([30, 0, 9]).tail(fewer_than=5)) == [1]


@settings(max_examples=100)
@given(counts_of_classes, st.integers(1, 400), st.floats(0.01, 0.99))
def test_a_rule_by_count_marks_no_class_commoner_than_one_it_leaves(
    counts: list[int], threshold: int, share: float
) -> None:
    priors = ClassPriors.from_counts(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorsWarning)
        masks = {
            "fewer_than": priors.tail(fewer_than=threshold),
            "rarest_classes": priors.tail(rarest_classes=share),
            "rarest_samples": priors.tail(rarest_samples=share),
        }
    for mask in masks.values():
        inside = [n for n, m in zip(counts, mask.tolist(), strict=True) if m]
        outside = [n for n, m in zip(counts, mask.tolist(), strict=True) if not m]
        assert not inside or not outside or max(inside) < min(outside)
    assert masks["fewer_than"].tolist() == [n < threshold for n in counts]
    assert int(masks["rarest_classes"].sum()) >= max(1, round(share * len(counts)))
    assert sum(n for n, m in zip(counts, masks["rarest_samples"].tolist(), strict=True) if m) <= share * sum(counts)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "give exactly one tail rule of fewer_than, rarest_classes, rarest_samples, classes; got none"),
        ({"fewer_than": 3, "classes": [1]}, "got fewer_than, classes"),
        ({"fewer_than": 0}, "fewer_than must be at least 1; got 0"),
        ({"rarest_classes": 0.0}, "rarest_classes must lie strictly between 0 and 1"),
        ({"rarest_classes": 1.0}, "strictly between 0 and 1; got 1.0"),
        ({"rarest_samples": -0.1}, "rarest_samples must lie strictly between"),
        ({"rarest_samples": math.nan}, "rarest_samples must lie strictly between"),
        ({"classes": [7]}, "tail class 7 is outside the 7 classes"),
        ({"classes": [-1]}, "tail class -1 is outside"),
        ({"classes": [1.5]}, "classes must be the indices.*got 1.5"),
        ({"classes": [True, False, False, False, False, False, False]}, "classes must be the indices.*got True"),
        ({"classes": torch.ones(7, dtype=torch.bool)}, "classes must be the indices.*got True"),
    ],
    ids=str,
)
def test_a_rule_out_of_range_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(PriorsError, match=message):
        LONG_TAIL.tail(**rule)


@pytest.mark.parametrize(
    ("counts", "rule", "marks", "like"),
    [
        ([500, 80, 50], {"fewer_than": 20}, "no class", "the base optimizer"),
        ([500, 80, 50], {"fewer_than": 501}, "every class", "SAM"),
        ([500, 80, 50], {"rarest_samples": 0.01}, "no class", "the base optimizer"),
        ([500, 80, 50], {"classes": []}, "no class", "the base optimizer"),
        ([500, 80, 50], {"classes": [0, 1, 2]}, "every class", "SAM"),
        ([9, 9, 9, 9, 5], {"rarest_classes": 0.9}, "every class", "SAM"),
        ([5, 9, 9, 9, 9, 9], {"rarest_samples": 0.01}, "no class", "the base optimizer"),
        ([30, 0, 30, 30, 30, 30], {"rarest_classes": 0.5}, "every class", "SAM"),
        (list(range(100, 0, -1)), {"fewer_than": 1}, "no class", "the base optimizer"),
    ],
    ids=str,
)
def test_a_rule_that_marks_none_or_all_warns_and_its_advice_works(
    counts: list[int], rule: dict[str, object], marks: str, like: str
) -> None:
    priors = ClassPriors.from_counts(counts)
    with pytest.warns(PriorsWarning, match=f"marks {marks}, so ImbSAM equals {like} here") as caught:
        mask = priors.tail(**rule)
    assert mask.all() or not mask.any()
    assert caught[0].filename == __file__, "the warning points at the caller"
    advice = re.search(
        r"Choose, for example, fewer_than=(\d+) \(marks (\d+) of (\d+) classes\)", str(caught[0].message)
    )
    threshold, number, classes = (int(n) for n in advice.groups())
    followed = priors.tail(fewer_than=threshold)
    assert int(followed.sum()) == number
    assert classes == len(counts)
    assert 0 < number < classes


@pytest.mark.parametrize("counts", [[5, 5, 5], [7]])
def test_equal_counts_are_told_that_no_rule_by_count_can_work(counts: list[int]) -> None:
    with pytest.warns(PriorsWarning, match=r"Choose, for example, classes=\[...\]"):
        ClassPriors.from_counts(counts).tail(fewer_than=1)


def test_a_long_list_of_counts_is_cut_in_the_warning() -> None:
    with pytest.warns(PriorsWarning, match=r"rarest first: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\."):
        ClassPriors.from_counts(list(range(1, 51))).tail(fewer_than=1)


def test_a_rule_that_splits_the_classes_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LONG_TAIL.tail(fewer_than=20)


@pytest.mark.parametrize(
    ("counts", "bounds"),
    [
        ([500, 50, 5], (100, 20)),
        ([500, 400, 50], (100, 20)),
        ([8000, 1502, 1311, 1199, 1030, 845, 752, 662, 199, 197, 163, 140], (1198, 200)),
        ([10000, 150], (9999, 151)),
        ([15, 9, 4], (14, 5)),
        ([300, 200, 200, 200, 150, 150], (199, 151)),
        ([200, 200, 200, 150], (199, 151)),
        ([50, 50, 50], (100, 20)),
        ([400, 400], (100, 20)),
        ([7], (100, 20)),
    ],
)
def test_the_bounds_of_shot_groups_follow_the_data_where_the_customary_ones_say_nothing(counts, bounds):
    priors = ClassPriors.from_counts(counts)
    many_above, few_below = priors.shot_bounds()
    assert (many_above, few_below) == bounds
    groups = priors.shot_groups(many_above=many_above, few_below=few_below)
    assert (len(set(groups)) > 1) == (len(set(counts)) > 1)
    if bounds != (100, 20):
        assert groups[counts.index(min(counts))] == "few"
        assert groups[counts.index(max(counts))] == "many"
