"""NaN and infinity on one of two real processes: every method refuses or skips the step on both, and goes on."""

import itertools
from collections.abc import Iterator

import pytest

from cases import Case
from imbsam.optim import METHODS
from optim.loops import identical
from optim.poisoned_rank import CASES, FAULTS, POLICIES
from processes import held_by_ranks

Results = list[dict[str, dict[str, object]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return held_by_ranks("optim/poisoned_rank.py", 2, tmp_path_factory.mktemp("poisoned_ranks"))


def faulty(method: str, policy: str, results: Results) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """What a rank holds after a fault, and without it: of each rank, fault and case."""
    for case in CASES:
        for fault in FAULTS:
            for held in results:
                yield held[f"{method}, {case}, {policy}, {fault}"], held[f"{method}, {case}"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_after_a_fault_on_one_rank_the_next_step_is_on_both_as_if_it_had_not_been(
    method: str, policy: str, results: Results
) -> None:
    for found, sound in faulty(method, policy, results):
        assert found["untouched"]
        assert found["steps"] == sound["steps"] == 2
        assert identical(found["contents"], sound["contents"])
        assert all(bool(each.isfinite().all()) for each in found["contents"])


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_on_one_rank_is_raised_or_skipped_on_both(method: str, results: Results) -> None:
    for found, _ in faulty(method, "raise", results):
        assert found["skipped"] == 0
        assert "is NaN or infinite" in found["error"]
    for found, _ in faulty(method, "skip", results):
        assert found["skipped"] == 1
        assert not found["error"]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_replicas_stay_bitwise_the_same_after_a_fault(method: str, case: Case, results: Results) -> None:
    weights = len(list(case.model().parameters()))
    for fault in itertools.product(POLICIES, FAULTS):
        one, other = (held[", ".join([method, str(case), *fault])]["contents"][:weights] for held in results)
        assert identical(one, other), fault


def test_the_rank_without_the_fault_says_that_another_has_it(results: Results) -> None:
    sound, faulty = (held["imbsam, mlp, raise, an infinite loss"]["error"] for held in results)
    assert sound.startswith("a loss or gradient of another rank in this step is NaN or infinite")
    assert faulty.startswith("the loss of this step is NaN or infinite")
