"""Every registered method over two real processes: replicas never part, whatever a rank draws or lacks."""

import pytest
import torch
from torch import Tensor

from cases import BATCH_NORM, MLP, Case
from imbsam.optim import METHODS
from processes import held_by_ranks

Results = list[dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return held_by_ranks("optim/family_rank.py", 2, tmp_path_factory.mktemp("family_ranks"))


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_replicas_stay_bitwise_the_same(name: str, case: Case, results: Results) -> None:
    one, other = (held[f"{name}, {case}"] for held in results)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(bool(value.isfinite().all()) for value in one.values())
    start = dict(case.model().named_parameters())
    assert not torch.equal(one["0.weight"], start["0.weight"].detach())
