"""Weights sharded by ``fully_shard`` over two and three real processes: every method ends where replicas end."""

import pytest
import torch

from cases import Case
from imbsam.optim import METHODS
from optim.sharded_rank import CASES, COMBINED, DRAWN
from processes import held_by_ranks

Results = dict[int, list[dict[str, dict[str, object]]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folders = {size: tmp_path_factory.mktemp(f"sharded{size}") for size in (2, 3)}
    return {size: held_by_ranks("optim/sharded_rank.py", size, folder) for size, folder in folders.items()}


@pytest.mark.parametrize(("case", "size"), [(case, size) for size in CASES for case in CASES[size]], ids=str)
@pytest.mark.parametrize("name", [*METHODS, *COMBINED])
def test_sharded_weights_end_where_replicated_ones_do(name: str, case: Case, size: int, results: Results) -> None:
    for held in results[size]:
        replicated, spread = held[f"{name}, {case}, False"], held[f"{name}, {case}, True"]
        if name not in DRAWN:
            torch.testing.assert_close(spread, replicated, atol=1e-12, rtol=0)
        start = dict(case.model().named_parameters())["0.weight"]
        assert all(bool(value.isfinite().all()) for value in spread.values())
        assert not torch.equal(spread["0.weight"], start.detach())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", [*METHODS, *COMBINED])
def test_all_ranks_hold_parts_of_the_same_weights(name: str, size: int, results: Results) -> None:
    first = results[size][0][f"{name}, mlp, True"]
    for other in results[size][1:]:
        assert all(torch.equal(first[key], value) for key, value in other[f"{name}, mlp, True"].items())


@pytest.mark.parametrize("name", METHODS)
def test_a_sharded_run_that_is_resumed_ends_at_the_same_bits(name: str, results: Results) -> None:
    for held in results[2]:
        straight, resumed = held["resumed"][name]
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_micro_batches_of_sharded_weights_agree_with_whole_batches(results: Results) -> None:
    for held in results[3]:
        torch.testing.assert_close(held["split 2"], held["split 99"], atol=1e-12, rtol=0)


def test_what_cannot_be_right_is_refused_by_name(results: Results) -> None:
    for held in results[2]:
        told = held["refused"]
        assert "fully_shard was applied to the model after the optimizer was made" in told["sharded afterwards"]
        assert "climb='apart' moves each replica by itself" in told["apart"]
        assert "ranks that hold parts of one would not draw alike" in told["stochastic"]
