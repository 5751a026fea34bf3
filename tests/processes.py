"""Starts a script as several processes of a distributed run and waits for them, but not for ever."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

TESTS = Path(__file__).parent


def run_ranks(script: str, size: int, folder: Path, *words: str, deadline: float = 120.0) -> list[int | str]:
    """Run ``python SCRIPT RANK SIZE FOLDER WORDS`` for each rank.

    Args:
        script: Below the tests.
        size: Number of ranks.
        folder: For what they leave; ``RANK.log`` holds what each printed.
        words: Further arguments.
        deadline: Seconds until those still running are killed.

    Returns:
        Exit codes, ``"deadlock"`` of a rank that had to be killed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(size):
        command = [sys.executable, str(TESTS / script), str(rank), str(size), str(folder), *words]
        with (folder / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    until = time.monotonic() + deadline
    codes: list[int | str] = []
    try:
        for process in processes:
            try:
                codes.append(process.wait(max(0.1, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                codes.append("deadlock")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return codes


@contextmanager
def among_ranks(rank: int, size: int, folder: Path, *, seconds: int = 30) -> Iterator[None]:
    """Be one of the ranks, over gloo, with one thread, as long as the block lasts; a message waits so many seconds."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds))
    yield
    dist.barrier()
    dist.destroy_process_group()


def held_by_ranks(script: str, size: int, folder: Path, *, deadline: float = 120.0) -> list[dict[str, object]]:
    """What each rank of a script left in ``FOLDER/RANK.pt``, once all have ended well."""
    codes = run_ranks(script, size, folder, deadline=deadline)
    assert codes == [0] * size, "\n".join(logs(folder, size))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def logs(folder: Path, size: int) -> Sequence[str]:
    """The end of what each rank printed."""
    return [(folder / f"{rank}.log").read_text()[-3000:] for rank in range(size)]
