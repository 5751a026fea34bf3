"""NaN and infinity on one of two real processes: every method refuses or skips the step on both, and goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cases import Case
from imbsam.optim import METHODS
from optim.loops import identical
from optim.poisoned_rank import CASES, FAULTS, POLICIES

Results = list[dict[str, dict[str, object]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("poisoned_ranks")
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(2):
        with (folder / f"{rank}.log").open("w") as log:
            command = [sys.executable, str(tests / "optim" / "poisoned_rank.py"), str(rank), str(folder)]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        codes = [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


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
