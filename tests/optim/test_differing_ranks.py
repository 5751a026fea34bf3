"""Two real processes that differ where they must not: told by name on every rank, and none waits for ever."""

from pathlib import Path

import pytest
import torch

from processes import logs, run_ranks


def told(what: str, folder: Path) -> list[dict[str, object]]:
    codes = run_ranks("optim/differing_rank.py", 2, folder, what, deadline=90)
    assert "deadlock" not in codes, logs(folder, 2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(
    ("what", "name", "values"),
    [
        ("tail", "tail", ("[False, False, False, True, True]", "[True, False, False, False, True]")),
        ("method", "kind", ("'ImbSAM'", "'SAM'")),
        ("rho", "radii", ("{'rho': 0.1}", "{'rho': 0.2}")),
    ],
)
def test_other_options_on_another_rank_are_told_on_every_rank(
    what: str, name: str, values: tuple[str, str], tmp_path: Path
) -> None:
    beginning = f"OptionError: the ranks were given different options: {name} is {values[0]} on rank 0 and {values[1]}"
    for held in told(what, tmp_path):
        assert held["steps"] == 0
        assert str(held["told"]).startswith(beginning)


def test_a_rank_with_more_batches_than_another_is_told_so_and_no_rank_waits_for_ever(tmp_path: Path) -> None:
    more, fewer = told("batches", tmp_path)
    assert (more["steps"], fewer["steps"]) == (2, 2)
    assert str(more["told"]).startswith("PassError: rank 0 came to step 3 and another rank did not")
    assert str(fewer["told"]).startswith("torch: ")
