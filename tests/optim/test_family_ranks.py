"""Every registered method over two real processes: replicas never part, whatever a rank draws or lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cases import BATCH_NORM, MLP, Case
from imbsam.optim import METHODS

Results = list[dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("family_ranks")
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(2):
        with (folder / f"{rank}.log").open("w") as log:
            command = [sys.executable, str(tests / "optim" / "family_rank.py"), str(rank), str(folder)]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        codes = [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_replicas_stay_bitwise_the_same(name: str, case: Case, results: Results) -> None:
    one, other = (held[f"{name}, {case}"] for held in results)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(bool(value.isfinite().all()) for value in one.values())
    start = dict(case.model().named_parameters())
    assert not torch.equal(one["0.weight"], start["0.weight"].detach())
