"""Any partition of the rows with any ascent: each is the sum of its terms, none needs code of its own."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, BATCHES, HEAD_AND_TAIL, MLP, ROUTED, TAIL, Case
from imbsam.optim import (
    CCSAM,
    SAM,
    SAMA,
    SSESAM,
    Adaptive,
    Ascent,
    FocalSAM,
    Friendly,
    Gradient,
    ImbSAM,
    Random,
    Rise,
    SharpnessAware,
    Stochastic,
    TailSAMA,
    VarianceSuppressed,
    WeightedSAM,
)
from optim.family import COUNTS, PRIORS, assert_follows
from optim.loops import contents, identical, make_passes, sgd, take_step

RHO, HEAD_RHO, FLAT, STRENGTH = 0.3, 0.2, 0.4, 0.8
WEIGHTS = torch.tensor([0.2, 0.5, 1.0, 3.0, 7.5], dtype=torch.float64)


@dataclass(frozen=True)
class Partition:
    make: Callable[..., SharpnessAware]
    addends: Callable[[Tensor, int], list[oracles.Addend]]
    """From targets and number of parameters."""
    at_the_weights: bool = True
    """Whether every row is forwarded there."""


def mean(y: Tensor) -> Tensor:
    return torch.full((len(y),), 1 / len(y), dtype=torch.float64)


def of_classes(y: Tensor, n: int) -> list[oracles.Addend]:
    found = [oracles.Addend((1 - FLAT) * mean(y))]
    for c in sorted(set(y.tolist())):
        members = (y == c).double()
        rho = RHO * max(COUNTS[c] - 1, 1) ** -0.25
        found.append(oracles.Addend(FLAT * mean(y) * members, members / members.sum(), [rho] * n, key=c))
    return found


def head_and_tail(y: Tensor, n: int, head_rho: float | None) -> list[oracles.Addend]:
    tail = TAIL[y].double() / len(y)
    head = mean(y) - tail
    at_head = oracles.Addend(head) if head_rho is None else oracles.Addend(head, head, [head_rho] * n, key=0)
    return [at_head, oracles.Addend(tail, tail, [RHO] * n, key=1)]


def focal(y: Tensor, n: int) -> list[oracles.Addend]:
    shares = torch.tensor([STRENGTH * (1 - COUNTS[int(c)] / sum(COUNTS)) for c in y], dtype=torch.float64)
    moved = mean(y) * shares
    return [oracles.Addend(mean(y) - moved), oracles.Addend(moved, moved, [RHO] * n, key=1)]


def weighted(y: Tensor, n: int) -> list[oracles.Addend]:
    rows = mean(y) * WEIGHTS[y]
    return [oracles.Addend(rows, rows, [RHO] * n)]


PARTITIONS = {
    "sam": Partition(
        lambda base, **options: SAM(base, rho=RHO, **options),
        lambda y, n: [oracles.Addend(mean(y), mean(y), [RHO] * n)],
    ),
    "imbsam": Partition(
        lambda base, **options: ImbSAM(base, TAIL, rho=RHO, **options), lambda y, n: head_and_tail(y, n, None)
    ),
    "focal-sam": Partition(
        lambda base, **options: FocalSAM(base, PRIORS, rho=RHO, gamma=1.0, strength=STRENGTH, **options), focal
    ),
    "sse-sam": Partition(
        lambda base, **options: SSESAM(base, TAIL, rho=RHO, head_rho=HEAD_RHO, **options),
        lambda y, n: head_and_tail(y, n, HEAD_RHO),
    ),
    "cc-sam": Partition(lambda base, **options: CCSAM(base, PRIORS, rho=RHO, flat=FLAT, **options), of_classes),
    "weighted": Partition(lambda base, **options: WeightedSAM(base, WEIGHTS, rho=RHO, **options), weighted),
    "sam-a": Partition(
        lambda base, **options: SAMA(base, WEIGHTS, rho=RHO, **options),
        lambda y, n: [oracles.Addend(mean(y), mean(y) * WEIGHTS[y], [RHO] * n)],
    ),
    "tail-sam-a": Partition(
        lambda base, **options: TailSAMA(base, TAIL, rho=RHO, **options),
        lambda y, n: [oracles.Addend(mean(y), mean(y) * TAIL[y], [RHO] * n)],
        at_the_weights=False,
    ),
}


def named_weight(model: nn.Module) -> list[bool]:
    return ["weight" in name for name, _ in model.named_parameters()]


ASCENTS: dict[str, tuple[Callable[[], Ascent], Callable[[nn.Module], oracles.Direction]]] = {
    "gradient": (Gradient, lambda model: oracles.plain_direction()),
    "damped gradient": (lambda: Gradient(damping=0.3), lambda model: oracles.plain_direction(0.3)),
    "adaptive weights": (
        lambda: Adaptive(0.02, damping=0.1),
        lambda model: oracles.adaptive_direction(0.02, named_weight(model), 0.1),
    ),
    "adaptive": (
        lambda: Adaptive(0.02, scope="all"),
        lambda model: oracles.adaptive_direction(0.02, [True] * len(named_weight(model))),
    ),
    "friendly": (
        lambda: Friendly(0.7, 0.6, damping=0.1),
        lambda model: oracles.FriendlyDirection(0.7, 0.6, 0.1),
    ),
    "rise": (lambda: Rise(0.02), lambda model: oracles.rise_direction(0.02)),
    "vasso": (lambda: VarianceSuppressed(0.4, damping=0.1), lambda model: oracles.VaSSODirection(0.4, 0.1)),
    "random": (Random, lambda model: oracles.random_direction(oracles.sphere_draw)),
    "stochastic": (
        lambda: Stochastic(0.5),
        lambda model: oracles.stochastic_direction(0.5, [list(range(len(named_weight(model))))]),
    ),
}
PAIRS = [(partition, "gradient") for partition in PARTITIONS] + [("imbsam", ascent) for ascent in ASCENTS]
EACH = pytest.mark.parametrize(("partition", "ascent"), list(dict.fromkeys(PAIRS)))
"""Each partition and each ascent with one of the others."""


def made(partition: str, ascent: str, model: nn.Module, **options: object) -> SharpnessAware:
    return PARTITIONS[partition].make(sgd(model.parameters()), ascent=ASCENTS[ascent][0](), model=model, **options)


@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_any_partition_along_any_ascent_is_the_sum_of_its_terms_along_its_direction(
    partition: str, ascent: str
) -> None:
    assert_is_the_sum_of_its_terms(partition, ascent, MLP)


@pytest.mark.parametrize("case", [ROUTED, BATCH_NORM], ids=str)
@EACH
def test_so_it_is_where_gradients_are_missing_or_rows_see_each_other(partition: str, ascent: str, case: Case) -> None:
    assert_is_the_sum_of_its_terms(partition, ascent, case)


def assert_is_the_sum_of_its_terms(partition: str, ascent: str, case: Case) -> None:
    model = case.model()
    addends, direction = PARTITIONS[partition].addends, ASCENTS[ascent][1](model)
    assert_follows(
        made(partition, ascent, model, batch_statistics="batch"),
        model,
        case,
        lambda params, losses_of, y: oracles.family_gradient(
            params, losses_of, addends(y, len(params)), direction, coupled=case.coupled
        ),
        at_the_weights=case.coupled or (ascent != "random" and PARTITIONS[partition].at_the_weights),
    )


@EACH
def test_the_loss_falls(partition: str, ascent: str) -> None:
    model = MLP.model(torch.float32)
    optimizer = made(partition, ascent, model)
    batch = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    before = float(MLP.loss(model(batch[0]), batch[1]).detach().mean())
    for _ in range(20):
        take_step(optimizer, model, MLP.loss, batch)
    assert float(MLP.loss(model(batch[0]), batch[1]).detach().mean()) < 0.7 * before


@pytest.mark.parametrize("statistics", ["batch", "context"])
@EACH
def test_batch_norm_moves_once_a_step_and_the_weights_come_back(partition: str, ascent: str, statistics: str) -> None:
    """A random direction needs no pass at the weights; statistics and loss are those at the weights all the same."""
    model = BATCH_NORM.model()
    optimizer = made(partition, ascent, model, batch_statistics=statistics, context_rows=2)
    for targets in BATCHES[:4]:
        x, y = BATCH_NORM.batch(targets)
        plain = copy.deepcopy(model)
        loss = BATCH_NORM.loss(plain(x), y).mean()
        weights = contents(*[nn.ParameterList(model.parameters())])
        passes = make_passes(optimizer, model, BATCH_NORM.loss, (x, y))
        assert identical(weights, contents(*[nn.ParameterList(model.parameters())]))
        assert identical([b.clone() for b in model.buffers()], [b.clone() for b in plain.buffers()])
        torch.testing.assert_close(passes.loss, loss.detach(), atol=1e-12, rtol=0)
        optimizer.step()


def test_imbsam_with_every_class_in_the_tail_is_sam_along_any_ascent() -> None:
    for make, _ in ASCENTS.values():
        model, twin = MLP.model(), MLP.model()
        one = ImbSAM(sgd(model.parameters()), torch.ones_like(TAIL), rho=RHO, ascent=make(), model=model)
        other = SAM(sgd(twin.parameters()), rho=RHO, ascent=make(), model=twin)
        for step, batch in enumerate(MLP.batches()):
            for optimizer, held in ((one, model), (other, twin)):
                torch.manual_seed(step)
                take_step(optimizer, held, MLP.loss, batch)
        assert identical(contents(model), contents(twin))
