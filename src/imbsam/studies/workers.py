"""Workers of many runs: processes of this machine, or the workers of a Dask or Ray cluster, all through joblib."""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from imbsam.config import Backend
from imbsam.errors import OptionError, RunError, RunWarning

ATTEMPTS = 3
"""Number of attempts at work whose process dies."""

PATIENCE = 10
"""Seconds to wait for a scheduler."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Workers:
    """Workers that make the runs.

    Args:
        jobs: Number of processes on this machine, by default one per core; on a cluster, largest number of workers.
        backend: ``"local"``, or ``"dask"`` or ``"ray"`` for a cluster. Its workers need this library and the same
            folders; each makes one run at a time.
        address: Address of the cluster's scheduler.

    Raises:
        OptionError: If ``jobs`` is below 1, or an address is missing or not needed.
    """

    jobs: int | None = None
    backend: Backend = "local"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise OptionError(f"--jobs must be at least 1; got {self.jobs}.")
        if self.backend == "local" and self.address is not None:
            raise OptionError("--address belongs to a cluster: name its kind, --backend dask or --backend ray.")
        if self.backend != "local" and self.address is None:
            example = "tcp://10.0.0.1:8786" if self.backend == "dask" else "10.0.0.1:6379"
            raise OptionError(
                f"--backend {self.backend} needs the address of the cluster, for example --address {example}."
            )

    def number(self, work: int) -> int:
        """Return how many pieces of work run at the same time on this machine."""
        return min(self.jobs or cores(), work)

    def threads(self, work: int) -> int | None:
        """Return the threads of each run; None for those that a cluster's worker was started with."""
        return max(1, cores() // self.number(work)) if self.backend == "local" and work else None

    def carry_out(self, make: Callable[[T], R], work: Sequence[T]) -> Iterator[R]:
        """Do each piece of work, and repeat a piece whose process died.

        Args:
            make: Function of a module.
            work: Arguments to call it with; anything that can be pickled.

        Yields:
            Result of each piece, in the order in which they end.

        Raises:
            OptionError: If the cluster's package is not installed, or its workers share a process.
            RunError: If the cluster does not answer, or a process died each time.
        """
        if not work:
            return
        # Late, as below: a single run needs none of it.
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        left = dict(enumerate(work))
        here = Path.cwd()
        for _ in range(ATTEMPTS):
            try:
                with self._configured(len(left)) as (number, streams):
                    how = "generator_unordered" if streams else "list"
                    asked_by = os.getpid() if self.backend == "local" else None
                    calls = [
                        joblib.delayed(_numbered)(make, here, asked_by, place, piece) for place, piece in left.items()
                    ]
                    for place, made in joblib.Parallel(n_jobs=number, return_as=how, batch_size=1)(calls):
                        del left[place]
                        yield made
                return
            except TerminatedWorkerError:
                text = f"a process died, perhaps for lack of memory; {len(left)} runs are started again or resumed."
                warnings.warn(text, RunWarning, stacklevel=2)
        raise RunError(
            f"a process died {ATTEMPTS} times, perhaps for lack of memory. Finished runs are kept: run the same "
            "command again, with fewer --jobs if it was memory."
        )

    def end(self, work: int) -> None:
        """End the processes of this machine once they have nothing left to do; by themselves they take seconds.

        Those of other work that this process gives to joblib end, too.

        Args:
            work: Number of pieces that :meth:`carry_out` was given at once.
        """
        if self.backend == "local" and self.number(work) > 1:
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor(reuse=True).shutdown(kill_workers=True)

    @contextmanager
    def _configured(self, work: int) -> Iterator[tuple[int, bool]]:
        """Set up joblib: the number of workers, and whether results arrive as they are made."""
        import joblib

        if self.backend == "local":
            number = self.number(work)
            with joblib.parallel_config(backend="loky" if number > 1 else "sequential"):
                yield number, True
        elif self.backend == "dask":
            with _dask(str(self.address)), joblib.parallel_config(backend="dask"):
                yield self.jobs or -1, True
        else:
            with _ray(str(self.address)) as number, joblib.parallel_config(backend="ray"):
                yield min(self.jobs or number, number), False


HERE = Workers()
"""Workers with a process for each core of this machine."""


def _numbered(make: Callable[[T], R], here: Path, asked_by: int | None, place: int, piece: T) -> tuple[int, R]:
    """Run a piece of work in our folder, to which paths are relative: a worker may have started in another."""
    if Path.cwd() != here:
        os.chdir(here)
    if asked_by == os.getppid():
        end_with(asked_by)
    return place, make(piece)


def end_with(parent: int) -> None:
    """End this process soon after its parent was killed, so that a repeated command finds the run free."""
    name = f"ends with {parent}"
    if any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


def cores() -> int:
    """Return the number of cores that this process may use."""
    found = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    return found or 1


@contextmanager
def _dask(address: str) -> Iterator[None]:
    try:
        from distributed import Client
    except ImportError:
        raise OptionError("--backend dask needs the package distributed: pip install 'imbsam[dask]'") from None
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise RunError(f"no Dask scheduler answers at {address} ({error}). Start one, or correct --address.") from None
    with client:
        busy = [
            name for name, worker in client.scheduler_info(n_workers=-1)["workers"].items() if worker["nthreads"] > 1
        ]
        if busy:
            raise OptionError(
                f"the Dask worker {busy[0]} has several threads, but runs would then share random numbers: start "
                f"workers of one thread, dask worker {address} --nworkers 4 --nthreads 1."
            )
        yield


@contextmanager
def _ray(address: str) -> Iterator[int]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise OptionError("--backend ray needs the package ray: pip install 'imbsam[ray]'") from None
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise RunError(f"no Ray cluster answers at {address} ({error}). Start one, or correct --address.") from None
    try:
        register_ray()
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()
