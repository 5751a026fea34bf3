"""Processes of one run, as torchrun starts them: their ranks, and how they agree."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from imbsam import errors
from imbsam.errors import ImbsamError, OptionError, RunError
from imbsam.storage.interruption import HeldBack, Stopped, ignored

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# Ranks wait while the first measures and writes. One that has died closes its connections, which ends any wait.
PATIENCE = timedelta(hours=24)
FIRST_MEETING = timedelta(minutes=5)
LAST_MEETING = timedelta(seconds=3)
FAILURE = "imbsam/failure"


class World:
    """Processes of a run; without arguments, the only process.

    Args:
        rank: Rank of this process.
        size: Number of processes.
        local_rank: Local rank of this process on its machine.
        store: Store in which a failing rank leaves its error; ``None`` with one process.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, store: "Store | None" = None) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._store = store
        self._over = False

    @property
    def first(self) -> bool:
        """Return whether this process prints, writes and evaluates."""
        return self.rank == 0

    def agree(self, signal: int | None = None) -> int | None:
        """Wait for all ranks.

        Args:
            signal: Signal that this rank received.

        Returns:
            Signal that any rank received, the same on all.

        Raises:
            ImbsamError: If another rank failed.
        """
        if self.size == 1:
            return signal
        flags = torch.tensor([0, signal or 0])
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        failed, number = flags.tolist()
        if failed:
            self._over = True
            self.check()
            raise RunError("another process of the run failed; its error is above.")
        return number or None

    def stop(self, signals: HeldBack, number: int) -> NoReturn:
        """End the run by a signal that the ranks agreed on.

        Args:
            signals: Signals of this rank.
            number: Number of the signal.

        Raises:
            Stopped: Always.
        """
        if self.size > 1:
            # torchrun signals each process in its own time: one that is ending already must not be ended again.
            signals.number = None
            ignored()
        raise Stopped(number)

    def from_first(self, make: Callable[[], T]) -> T:
        """Return on every rank what the first rank makes.

        Args:
            make: Function called on the first rank only; its result is pickled.

        Raises:
            ImbsamError: If it fails there, or another rank has failed.
        """
        if self.size == 1:
            return make()
        made: list[T | None] = [make() if self.first else None]
        self.agree()
        dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in order, on every rank.

        Raises:
            ImbsamError: If another rank failed.
        """
        self.agree()
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def wrapped(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Wrap the model so that the ranks share its gradients; with one process, return the model itself.

        Args:
            model: Model, the same on every rank, on its device.
            device: Device of the model.

        Raises:
            OptionError: If the processes of a machine do not have a device each.
        """
        if self.size == 1:
            return model
        if device.type == "cuda" and torch.cuda.current_device() != self.local_rank:
            raise OptionError(
                f"there is no device for process {self.local_rank} of this machine: start as many processes as it has "
                "devices, --nproc-per-node gpu, or train with --device cpu."
            )
        if device.type == "cuda" and device.index not in (None, self.local_rank):
            raise OptionError(f"--device {device} is one device for {self.size} processes: give --device cuda.")
        self.agree()
        group = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo")
        return DistributedDataParallel(model, process_group=group)

    def check(self) -> None:
        """Raise the error of another rank, if one has failed.

        Raises:
            ImbsamError: If another rank has failed; the error has the same class and names the rank.
        """
        rank, kind, text = self._failure()
        if rank not in (None, self.rank):
            raise getattr(errors, kind)(f"rank {rank}: {text}")

    def _failure(self) -> tuple[int | None, str, str]:
        """Return the rank that failed first, and the class and text of its error."""
        with suppress(RuntimeError):
            if self._store is not None and self._store.check([FAILURE]):
                rank, kind, text = self._store.get(FAILURE).decode().split("\n", 2)
                return int(rank), kind, text
        return None, "", ""

    def told(self, error: Exception) -> ImbsamError:
        """Tell the other ranks of an error, so that none waits for this one any longer.

        Args:
            error: Error raised here, by this rank itself or because another ended.

        Returns:
            The error to end with: that of the rank that failed first, or this rank's own with what to do.
        """
        # torchrun ends the processes that are left as soon as one has failed; each shall say why by itself.
        ignored()
        own = error if isinstance(error, ImbsamError) else RunError(_described(error))
        if self._over or self._store is None:
            return own
        try:
            self._store.compare_set(FAILURE, "", f"{self.rank}\n{type(own).__name__}\n{own}")
            dist.all_reduce(torch.ones(2, dtype=torch.int64), dist.ReduceOp.MAX, async_op=True).wait(LAST_MEETING)
        except RuntimeError:
            # The others are in the middle of a step, and learn it when this process ends.
            if self._failure()[0] == self.rank != 0:
                print(f"imbsam: rank {self.rank}: {own}", file=sys.__stderr__, flush=True)
        try:
            self.check()
        except ImbsamError as first:
            return error if isinstance(error, ImbsamError) else first
        return own


def _described(error: Exception) -> str:
    if isinstance(error, RuntimeError) and ("gloo" in str(error) or isinstance(error, dist.DistError)):
        return (
            "the connection to another process was lost: it was killed, or ran out of memory. If an epoch was "
            "finished, resume with imbsam train --resume."
        )
    return "".join(traceback.format_exception(error)).rstrip()


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, by what it put into the environment.

    An error that one rank raises inside the block is raised on all ranks, so that none waits for ever.

    Yields:
        The processes.

    Raises:
        ImbsamError: If this rank or another one failed; it is the error of the first.
    """
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=FIRST_MEETING)))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes that torchrun started cannot reach each other: {error}") from None
    world = World(rank, size, int(os.environ["LOCAL_RANK"]), store)
    if world.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(world.local_rank)
    try:
        yield world
    except Exception as error:
        raise world.told(error) from None
    except KeyboardInterrupt:
        ignored()
        world.check()
        raise
    dist.destroy_process_group()
