"""One of several processes that train every method, with replicated and with sharded weights, on shards of a batch."""

import copy
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, MLP, TAIL, Case
from imbsam.errors import OptionError, PassError
from imbsam.optim import ASCENTS, METHODS, ImbSAM, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import sgd
from processes import among_ranks

TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 2, 3, 1])
SHARDS = {2: ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10]), 3: ([0, 1, 2, 3], [4, 6, 7], [5, 8, 9, 10])}
STEPS = 3
CASES = {2: (MLP, BATCH_NORM), 3: (MLP,)}
DRAWN = ("gnm", "trace-sam", "frob-sam", "det-sam")
"""Methods of random directions, where each rank draws for what it holds."""
COMBINED = {f"imbsam, {name}": name for name in ASCENTS if name not in ("random", "stochastic", "gradient")}


def sharded(model: nn.Module) -> nn.Module:
    for layer in model:
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    return fully_shard(model)


def whole(p: Tensor) -> Tensor:
    return (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()


def created(method: str, model: nn.Module, ascent: str | None = None) -> SharpnessAware:
    options = {"beta": 1.0} if method == "esam" else {}
    optimizer = create(method, model, base=sgd(model.parameters()), priors=PRIORS, tail=TAIL, ascent=ascent, **options)
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.3))
    return optimizer


def made(method: str) -> tuple[SharpnessAware, nn.Module]:
    model = sharded(MLP.model())
    return created(method, model), model


def train(name: str, case: Case, rank: int, size: int, *, shard: bool) -> dict[str, Tensor]:
    bare = case.model()
    model = sharded(bare) if shard else DistributedDataParallel(bare)
    method, ascent = ("imbsam", COMBINED[name]) if name in COMBINED else (name, None)
    optimizer = created(method, model, ascent=ascent)
    torch.manual_seed(rank)
    before = [whole(p) for p in bare.parameters()]
    for seed in range(STEPS):
        x, y = case.batch(TARGETS, seed)
        x, y = x[SHARDS[size][rank]], y[SHARDS[size][rank]]
        with optimizer.passes(y) as passes:
            for each in passes:
                each.backward(case.loss(model(x[each.rows]), y[each.rows]))
        assert seed or all(torch.equal(whole(p), b) for p, b in zip(bare.parameters(), before, strict=True))
        torch.nn.utils.clip_grad_norm_(bare.parameters(), 10.0)
        optimizer.step()
    return {name: whole(p) for name, p in bare.named_parameters()}


def step(optimizer: SharpnessAware, model: nn.Module, rank: int, size: int, seed: int, *, split: int = 99) -> None:
    x, y = MLP.batch(TARGETS, seed)
    x, y = x[SHARDS[size][rank]], y[SHARDS[size][rank]]
    with optimizer.passes(y) as passes:
        for each in passes:
            for part in each.split(split):
                part.backward(MLP.loss(model(x[part.rows]), y[part.rows]))
    optimizer.step()


def resumed(name: str, rank: int, size: int) -> list[dict[str, Tensor]]:
    """Weights after four steps, and those of another optimizer that goes on with what the first had after two."""
    optimizer, model = made(name)
    ended = []
    for seed in range(4):
        if seed == 2:
            held = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
            random = torch.get_rng_state()
        step(optimizer, model, rank, size, seed)
    ended.append({key: whole(p) for key, p in model.named_parameters()})
    optimizer, model = made(name)
    model.load_state_dict(held[0])
    optimizer.load_state_dict(held[1])
    torch.set_rng_state(random)
    for seed in (2, 3):
        step(optimizer, model, rank, size, seed)
    return [*ended, {key: whole(p) for key, p in model.named_parameters()}]


def refusals() -> dict[str, str]:
    """What each misuse is told."""
    told = {}
    x, y = MLP.batch(TARGETS)
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, model=model)
    sharded(model)
    try:
        optimizer.step(lambda rows: MLP.loss(model(x[rows]), y[rows]), targets=y)
    except PassError as error:
        told["sharded afterwards"] = str(error)
    model = sharded(MLP.model())
    try:
        ImbSAM(sgd(model.parameters()), TAIL, model=model, climb="apart")
    except OptionError as error:
        told["apart"] = str(error)
    optimizer = create("esam", model, base=sgd(model.parameters()), rho=0.1)
    try:
        optimizer.step(lambda rows: MLP.loss(model(x[rows]), y[rows]), targets=y)
    except OptionError as error:
        told["stochastic"] = str(error)
    return told


def main(rank: int, size: int, folder: Path) -> None:
    with among_ranks(rank, size, folder):
        results: dict[str, object] = {}
        for name in (*METHODS, *COMBINED):
            for case in CASES[size]:
                for shard in (False, True):
                    results[f"{name}, {case}, {shard}"] = train(name, case, rank, size, shard=shard)
        if size == 2:
            results["resumed"] = {name: resumed(name, rank, size) for name in METHODS}
            results["refused"] = refusals()
        for split in (2, 99):
            optimizer, model = made("imbsam")
            step(optimizer, model, rank, size, 0, split=split)
            results[f"split {split}"] = {key: whole(p) for key, p in model.named_parameters()}
        torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
