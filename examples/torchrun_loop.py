"""ImbSAM in a loop over several processes: ``torchrun --nproc-per-node 2 examples/torchrun_loop.py [shard]``.

Every process has a copy of the weights (DistributedDataParallel), or with ``shard`` a part of them (fully_shard).
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report


def main(shard: bool) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    dataset, tail = rare_digits()
    # Dealt in turn: a step has the same rows whatever the number of processes.
    sampler = DistributedSampler(dataset, size, rank, shuffle=False)
    loader = DataLoader(dataset, BATCH_SIZE // size, sampler=sampler)
    network_alone = network()
    model = fully_shard(network_alone) if shard else DistributedDataParallel(network_alone)
    optimizer = imbsam(model, tail)  # After the model was wrapped, and with it.
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
    for _ in range(EPOCHS):
        for x, y in loader:
            with optimizer.passes(y) as passes:
                for p in passes:
                    p.backward(F.cross_entropy(model(x[p.rows]), y[p.rows], reduction="none"))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(network_alone, options=whole)  # On every rank, as sharded weights are gathered.
    if rank == 0:
        alone = network()
        alone.load_state_dict(weights)
        torch.save(weights, os.environ.get("WEIGHTS", "digits.pt"))
        report(alone, dataset, tail)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(shard="shard" in sys.argv[1:])
