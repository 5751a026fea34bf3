"""One of two processes that count what the methods send over DDP: ``python communication_rank.py RANK SIZE FOLDER``."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, MLP, TAIL, Case
from imbsam.optim import METHODS, Random, Reuse, create
from optim.family import PRIORS
from optim.loops import sgd
from processes import among_ranks

RANKS = 2
STEPS = 3
BATCHES = {
    "tail rows on both ranks": ([0, 3, 1, 2, 0], [4, 1, 0, 2, 3]),
    "tail rows on one rank": ([0, 0, 1, 2, 0], [4, 1, 0, 2, 3]),
    "no tail row": ([0, 0, 1, 2, 0], [1, 1, 0, 2, 2]),
}
"""Classes of each rank's rows."""

ASCENTS = {"imbsam, reuse": ("imbsam", Reuse), "sam, random": ("sam", Random)}
"""Methods with an ascent that spares a pass, by what to call them."""


@dataclass
class Sent:
    """What one step sent.

    Args:
        all_reduces: Of the whole gradient: bytes of gradient that were reduced, over the gradient's bytes.
        bytes: Of gradient, that were reduced.
        small: All-reduces that the optimizer makes itself, of a few numbers.
        small_bytes: Bytes in them.
    """

    all_reduces: float = 0.0
    bytes: int = 0
    small: int = 0
    small_bytes: int = 0


@dataclass
class Counter:
    """Counts what DDP reduces, by its hook, and what is reduced beside it, at torch's own function."""

    now: Sent = field(default_factory=Sent)

    def hook(self, state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        buffer = bucket.buffer()
        self.now.bytes += buffer.nbytes
        buffer /= RANKS
        reduced = dist.distributed_c10d._get_default_group().allreduce([buffer]).get_future()
        return reduced.then(lambda done: done.value()[0])

    def small(self, real: Callable[..., object]) -> Callable[..., object]:
        def counting(tensor: Tensor, *rest: object, **more: object) -> object:
            self.now.small += 1
            self.now.small_bytes += tensor.nbytes
            return real(tensor, *rest, **more)

        return counting

    def taken(self, model: nn.Module) -> Sent:
        """The step's, and begin anew."""
        sent, self.now = self.now, Sent()
        sent.all_reduces = sent.bytes / sum(p.nbytes for p in model.parameters() if p.requires_grad)
        return sent


def plain(case: Case, counter: Counter, rank: int) -> list[Sent]:
    """DDP as everybody uses it, without the library."""
    bare = case.model()
    model = DistributedDataParallel(bare)
    model.register_comm_hook(None, counter.hook)
    optimizer, sent = sgd(bare.parameters()), []
    for seed in range(STEPS):
        x, y = case.batch(torch.tensor(BATCHES["tail rows on both ranks"][rank]), seed)
        optimizer.zero_grad()
        case.loss(model(x), y).mean().backward()
        optimizer.step()
        sent.append(counter.taken(bare))
    return sent


def ours(name: str, case: Case, batch: str, counter: Counter, rank: int) -> list[Sent]:
    method, ascent = ASCENTS.get(name, (name, None))
    bare = case.model()
    model = DistributedDataParallel(bare)
    model.register_comm_hook(None, counter.hook)
    given = {} if ascent is None else {"ascent": ascent()}
    optimizer, sent = create(method, model, base=sgd(bare.parameters()), priors=PRIORS, tail=TAIL, **given), []
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.3))
    for seed in range(STEPS):
        x, y = case.batch(torch.tensor(BATCHES[batch][rank]), seed)
        optimizer.step(lambda rows, x=x, y=y: case.loss(model(x[rows]), y[rows]), targets=y)
        sent.append(counter.taken(bare))
    return sent


def main(rank: int, folder: Path) -> None:
    with among_ranks(rank, RANKS, folder):
        counter = Counter()
        dist.all_reduce = counter.small(dist.all_reduce)
        found = {}
        for case in (MLP, BATCH_NORM):
            found[f"DDP, {case}"] = plain(case, counter, rank)
            for name in (*METHODS, *ASCENTS):
                for batch in BATCHES:
                    found[f"{name}, {case}, {batch}"] = ours(name, case, batch, counter, rank)
        torch.save({name: [asdict(each) for each in sent] for name, sent in found.items()}, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
