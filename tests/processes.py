"""Starts a script as several processes of a distributed run and waits for them, but not for ever."""

import atexit
import functools
import importlib
import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist

TESTS = Path(__file__).parent
SPAWN, FORK = multiprocessing.get_context("spawn"), multiprocessing.get_context("fork")


def run_ranks(script: str, size: int, folder: Path, *words: str, deadline: float = 120.0) -> list[int | str]:
    """Run ``python SCRIPT RANK SIZE FOLDER WORDS`` for each rank, with the environment that torchrun gives.

    Args:
        script: Below the tests.
        size: Number of ranks.
        folder: For what they leave; ``RANK.log`` holds what each printed.
        words: Further arguments.
        deadline: Seconds until those still running are killed.

    Returns:
        Exit codes, ``"deadlock"`` of a rank that had to be killed.
    """
    orders = server()
    try:
        orders.send((script, size, folder, words, deadline))
        codes: list[int | str] = orders.recv()
    except BaseException:
        # What it may still answer is for nobody.
        server.cache_clear()
        raise
    return codes


@functools.cache
def server() -> Connection:
    """A process that forks ranks from itself, and so loads torch and a script's other imports once for all of them."""
    ours, its = SPAWN.Pipe()
    # One without threads, which a fork would not take along.
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        SPAWN.Process(target=serve, args=(its,)).start()
    its.close()
    atexit.register(ours.close)
    return ours


def serve(orders: Connection) -> None:
    """Answer each order with the exit codes of its ranks, until nobody gives orders any more."""
    # The first optimizer of a process loads it, which takes a second.
    importlib.import_module("torch._dynamo")
    with suppress(EOFError):
        while True:
            script, size, folder, words, deadline = orders.recv()
            # What fails here fails again in each rank, which says so in its log.
            with suppress(Exception):
                importlib.import_module(script.removesuffix(".py").replace("/", "."))
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            ranks = [FORK.Process(target=be, args=(rank, size, port, script, folder, words)) for rank in range(size)]
            orders.send(ended(ranks, deadline))


def be(rank: int, size: int, port: int, script: str, folder: Path, words: Sequence[str]) -> None:
    """Be a rank: this process prints into its log, and runs the script in its folder with one thread."""
    with (folder / f"{rank}.log").open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(number) for name, number in numbers.items()}, MASTER_ADDR="127.0.0.1")
    os.chdir(folder)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sys.argv = [script, str(rank), str(size), str(folder), *words]
    runpy.run_path(str(TESTS / script), run_name="__main__")


def ended(ranks: Sequence[ForkProcess], deadline: float) -> list[int | str]:
    """Start the ranks, wait so many seconds, and kill those that have not ended."""
    until = time.monotonic() + deadline
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(max(0.1, until - time.monotonic()))
        return ["deadlock" if rank.exitcode is None else rank.exitcode for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


@contextmanager
def among_ranks(rank: int, size: int, folder: Path, *, seconds: int = 30) -> Iterator[None]:
    """Be one of the ranks, over gloo, as long as the block lasts; a message waits so many seconds."""
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
