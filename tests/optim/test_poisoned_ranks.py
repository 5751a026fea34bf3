"""NaN and infinity on one of two real processes: every method refuses or skips the step on both, and goes on."""

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


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_fault_on_one_rank_is_refused_on_both_and_the_next_step_is_as_if_it_had_not_been(
    method: str, policy: str, fault: str, case: Case, results: Results
) -> None:
    one, other = (held[f"{method}, {case}, {policy}, {fault}"] for held in results)
    for rank, found in enumerate((one, other)):
        assert found["untouched"]
        assert found["skipped"] == (policy == "skip")
        assert ("is NaN or infinite" in found["error"]) == (policy == "raise")
        sound = results[rank][f"{method}, {case}"]
        assert found["steps"] == sound["steps"] == 2
        assert identical(found["contents"], sound["contents"])
        assert all(bool(each.isfinite().all()) for each in found["contents"])
    weights = len(list(case.model().parameters()))
    assert identical(one["contents"][:weights], other["contents"][:weights])


def test_the_rank_without_the_fault_says_that_another_has_it(results: Results) -> None:
    sound, faulty = (held["imbsam, mlp, raise, an infinite loss"]["error"] for held in results)
    assert sound.startswith("a loss or gradient of another rank in this step is NaN or infinite")
    assert faulty.startswith("the loss of this step is NaN or infinite")
