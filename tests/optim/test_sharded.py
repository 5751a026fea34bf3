"""Weights sharded by ``fully_shard`` over two and three real processes: every method ends where replicas end."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cases import Case
from imbsam.optim import METHODS
from optim.sharded_rank import CASES, COMBINED, DRAWN
from processes import held_by_ranks

pytestmark = pytest.mark.slow

Weights = dict[str, Tensor]
Results = dict[int, list[dict[str, Weights]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folders = {size: tmp_path_factory.mktemp(f"sharded{size}") for size in (2, 3)}
    return {size: held_by_ranks("optim/sharded_rank.py", size, folder) for size, folder in folders.items()}


def ended(name: str, results: Results) -> Iterator[tuple[Case, Weights, Weights]]:
    """A case, and the weights that a rank holds after it: replicated and sharded."""
    for size, cases in CASES.items():
        for case in cases:
            for held in results[size]:
                yield case, held[f"{name}, {case}, False"], held[f"{name}, {case}, True"]


@pytest.mark.parametrize("name", [name for name in (*METHODS, *COMBINED) if name not in DRAWN])
def test_sharded_weights_end_where_replicated_ones_do(name: str, results: Results) -> None:
    for _, replicated, sharded in ended(name, results):
        torch.testing.assert_close(sharded, replicated, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [*METHODS, *COMBINED])
def test_sharded_weights_are_trained_and_finite(name: str, results: Results) -> None:
    for case, _, sharded in ended(name, results):
        assert all(bool(value.isfinite().all()) for value in sharded.values())
        assert not torch.equal(sharded["0.weight"], dict(case.model().named_parameters())["0.weight"].detach())


@pytest.mark.parametrize("name", [*METHODS, *COMBINED])
def test_all_ranks_hold_parts_of_the_same_weights(name: str, results: Results) -> None:
    for ranks in results.values():
        first, *others = (held[f"{name}, mlp, True"] for held in ranks)
        for other in others:
            assert all(torch.equal(first[key], value) for key, value in other.items())


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
        assert "climb='apart' moves each replica separately" in told["apart"]
        assert "ranks that hold parts of one would not draw alike" in told["stochastic"]
