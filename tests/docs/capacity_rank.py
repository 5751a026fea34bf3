"""One of two processes that count a step's rows and collectives: ``python capacity_rank.py RANK SIZE FOLDER``."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from capacity import WORK
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from docs.capacity_steps import BATCH, RANKS, Counted, made, network, period, step
from processes import among_ranks

SHARDED = ("plain", "sam", "looksam", "imbsam", "imbsam, reuse", "focal-sam", "sse-sam")


def over_replicas(name: str, policy: str, **options: object) -> dict[str, float]:
    """A mean step's rows of a rank, and its all-reduces of the gradient."""
    model = network(coupled=policy != "alone")
    replica = DistributedDataParallel(model)
    size, sent = sum(p.nbytes for p in model.parameters()), []

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sent.append(bucket.buffer().nbytes)
        buffer = bucket.buffer().div_(RANKS)
        reduced = dist.distributed_c10d._get_default_group().allreduce([buffer]).get_future()
        return reduced.then(lambda done: done.value()[0])

    replica.register_comm_hook(None, hook)
    optimizer = made(name, replica, model, policy, **options)
    for _ in range(period(name)):
        step(optimizer, replica, BATCH)
    sent.clear()
    counted = Counted(model)
    for _ in range(period(name)):
        step(optimizer, replica, BATCH)
    forwards, backwards = counted.rows()
    return {
        "forwards": forwards / period(name),
        "backwards": backwards / period(name),
        "all_reduces": sum(sent) / size / period(name),
    }


def over_shards(name: str) -> dict[str, float]:
    """All-gathers and reduce-scatters of a step, each over all layers."""
    model = network(coupled=False)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    for layer in layers:
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(model, reshard_after_forward=True)
    optimizer = made(name, model, model, "alone")
    for _ in range(period(name)):
        step(optimizer, model, BATCH)
    with Collectives() as found:
        for _ in range(period(name)):
            step(optimizer, model, BATCH)
    return {kind: found.counts[kind] / len(layers) / period(name) for kind in Collectives.KINDS}


class Collectives(TorchDispatchMode):
    """Counts the collectives of shards where torch hands them on to the process group."""

    KINDS = ("allgather", "reduce_scatter")

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(self.KINDS, 0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for kind in self.KINDS:
            self.counts[kind] += str(func).startswith("c10d.") and kind in str(func)
        return func(*args, **(kwargs or {}))


def main(rank: int, folder: Path) -> None:
    with among_ranks(rank, RANKS, folder, seconds=60):
        found: dict[str, object] = {
            f"{name}, {policy}": over_replicas(name, policy)
            for name in WORK
            for policy in ("alone", "context", "batch")
        }
        alone = {name: over_replicas(name, "alone", climb="apart") for name, work in WORK.items() if not work.remembers}
        found.update({f"{name}, climbing apart": counted for name, counted in alone.items()})
        found.update({f"{name}, sharded": over_shards(name) for name in SHARDED})
        torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
