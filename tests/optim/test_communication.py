"""What a step sends over two real processes, counted where DDP reduces: beside plain DDP, one gradient more at most."""

import pytest

from cases import BATCH_NORM, MLP, Case
from imbsam.optim import METHODS
from optim.communication_rank import ASCENTS, BATCHES, RANKS
from processes import held_by_ranks

Counted = dict[str, list[dict[str, float]]]

MORE = {"sse-sam": 3, "frob-sam": 3, "cc-sam": 1 + 5, "imbsam, reuse": 3}
"""All-reduces of the gradient in a step of methods with several directions, which ranks must share each by itself."""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    one, *others = held_by_ranks(
        "optim/communication_rank.py", RANKS, tmp_path_factory.mktemp("communication"), deadline=200
    )
    assert all(other == one for other in others)
    return one


def reduced(counted: Counted, name: str) -> list[float]:
    return [step["all_reduces"] for step in counted[name]]


def most_reduced(counted: Counted, name: str) -> list[float]:
    """In a method's first step, over the batches of each case."""
    return [max(reduced(counted, f"{name}, {case}, {batch}")[0] for batch in BATCHES) for case in (MLP, BATCH_NORM)]


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_plain_ddp_reduces_the_gradient_once_and_so_does_the_plain_method(case: Case, counted: Counted) -> None:
    assert set(reduced(counted, f"DDP, {case}")) == {1}
    for batch in BATCHES:
        assert set(reduced(counted, f"plain, {case}, {batch}")) == {1}


@pytest.mark.parametrize("name", [name for name in (*METHODS, *ASCENTS) if name not in MORE])
def test_a_step_reduces_one_gradient_more_than_plain_ddp_at_most(name: str, counted: Counted) -> None:
    assert max(most_reduced(counted, name)) <= 2


@pytest.mark.parametrize("name", MORE)
def test_a_step_of_several_directions_reduces_each(name: str, counted: Counted) -> None:
    assert most_reduced(counted, name) == [MORE[name]] * 2


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_reused_direction_is_sent_in_the_first_step_alone(case: Case, counted: Counted) -> None:
    assert reduced(counted, f"imbsam, reuse, {case}, tail rows on both ranks") == [3, 2, 2]


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_imbsam_without_a_tail_row_on_any_rank_communicates_as_plain_ddp_does(case: Case, counted: Counted) -> None:
    assert reduced(counted, f"imbsam, {case}, no tail row") == reduced(counted, f"DDP, {case}")


@pytest.mark.parametrize("name", METHODS)
def test_what_the_ranks_agree_on_is_a_few_numbers(name: str, counted: Counted) -> None:
    for batch in BATCHES:
        for step in counted[f"{name}, mlp, {batch}"]:
            # Rows and terms before the passes, losses of a universal method in them, whether all is finite after them.
            assert step["small"] <= 3
            assert step["small_bytes"] <= 8 * (1 + 2 * 6 + 1)
