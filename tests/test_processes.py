"""Ranks forked from a process that has loaded torch end as processes of their own do."""

from pathlib import Path

import pytest

from processes import logs, run_ranks, server

SCRIPT = """
import os, signal, sys, threading, torch
rank, what = int(sys.argv[1]), sys.argv[4]
print(f"rank {rank} of {sys.argv[2]}: {os.environ['RANK']}, {threading.active_count()}, {torch.get_num_threads()}")
if what == "code":
    sys.exit(3 * rank)
if what == "error" and rank == 1:
    raise ValueError("the script broke")
if what == "kill" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait" and rank == 1:
    threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("what", "codes"), [("code", [0, 3]), ("error", [0, 1]), ("kill", [0, -9]), ("wait", [0, "deadlock"])]
)
def test_how_each_rank_ended_is_told(what: str, codes: list[int | str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run_ranks(str(script), 2, tmp_path, what, deadline=2.0) == codes
    first, second = logs(tmp_path, 2)
    assert first == "rank 0 of 2: 0, 1, 1\n"
    assert ("ValueError: the script broke" in second) == (what == "error")


def test_a_process_that_died_is_started_anew(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    server().close()
    with pytest.raises(OSError, match="closed"):
        run_ranks(str(script), 1, tmp_path, "code")
    assert run_ranks(str(script), 1, tmp_path, "code") == [0]
