"""Step for step beside pytorch-optimizer; where the two differ, the formula says who is right."""

from collections.abc import Callable

import pytest
import pytorch_optimizer as peer
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

import oracles
from cases import BATCH_NORM, EMBEDDING, MLP, TIED, Case
from imbsam.optim import ASAM, GSAM, SAM, Adaptive, FriendlySAM, LookSAM, Schedule, SharpnessAware
from imbsam.optim.schedules import following
from optim.loops import contents, take_step

NORMS = {"single": 2e-8, "double": 1e-10}
"""How close the two stay. The peer takes its norms in float32 even of float64; in float64 its 1e-12 in them remains."""
STEPS = 10
BASES: dict[str, tuple[type[Optimizer], dict[str, float]]] = {
    "sgd": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "adamw": (AdamW, {"lr": 0.01, "eps": 1e-6, "weight_decay": 0.1}),
}
Make = Callable[[nn.Module, type[Optimizer], dict[str, float]], SharpnessAware]
PeerMake = Callable[[nn.Module, type[Optimizer], dict[str, float]], Optimizer]

PAIRS: dict[str, tuple[Make, PeerMake]] = {
    "SAM": (
        lambda m, base, o: SAM(base(m.parameters(), **o), rho=0.3),
        lambda m, base, o: peer.SAM(m.parameters(), base, rho=0.3, **o),
    ),
    "SAM, adaptive": (
        lambda m, base, o: ASAM(base(m.parameters(), **o), rho=0.5, eta=0.0, scope="all"),
        lambda m, base, o: peer.SAM(m.parameters(), base, rho=0.5, adaptive=True, **o),
    ),
    "Friendly-SAM": (
        lambda m, base, o: FriendlySAM(base(m.parameters(), **o), rho=0.3, sigma=1.0, decay=0.9),
        lambda m, base, o: peer.FriendlySAM(m.parameters(), base, rho=0.3, sigma=1.0, lmbda=0.9, **o),
    ),
    "Friendly-SAM, as in its script": (
        lambda m, base, o: FriendlySAM(base(m.parameters(), **o), rho=0.2, sigma=0.8, decay=0.6),
        lambda m, base, o: peer.FriendlySAM(m.parameters(), base, rho=0.2, sigma=0.8, lmbda=0.6, **o),
    ),
    "LookSAM": (
        lambda m, base, o: LookSAM(base(m.parameters(), **o), rho=0.3, interval=3, alpha=0.7, per_tensor=True),
        lambda m, base, o: peer.LookSAM(m.parameters(), base, rho=0.3, k=3, alpha=0.7, **o),
    ),
}


def norm_in_double(groups: list[dict[str, object]], *_: object, weight_adaptive: bool = False) -> Tensor:
    """What the peer's function returns, the squared norm, before it is rounded to float32."""
    squares = [
        ((p.abs() if weight_adaptive and group["adaptive"] else 1.0) * p.grad).square().sum()
        for group in groups
        for p in group["params"]
        if p.grad is not None
    ]
    return torch.stack(squares).sum().reshape(1)


@pytest.fixture(params=NORMS)
def close(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    if request.param == "double":
        monkeypatch.setattr("pytorch_optimizer.optimizer.sam.get_global_gradient_norm", norm_in_double)
    return {"atol": NORMS[request.param], "rtol": 0}


def peer_step(optimizer: Optimizer, model: nn.Module, case: Case, batch: tuple[Tensor, Tensor]) -> int:
    """One step as its documentation has it; the number of forward-backwards it took."""
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = case.loss(model(batch[0]), batch[1]).mean()
        loss.backward()
        calls.append(1)
        return loss

    closure()
    optimizer.step(closure)
    return len(calls)


def batches(case: Case) -> list[tuple[Tensor, Tensor]]:
    return [case.batch(targets, seed) for seed, (_, targets) in enumerate(case.batches() * 2)]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("case", [MLP, EMBEDDING, TIED], ids=str)
def test_step_for_step_the_two_agree(case: Case, pair: str, base: str, close: dict[str, float]) -> None:
    model, twin = case.model(), case.model()
    mine, theirs = (make(m, *BASES[base]) for make, m in zip(PAIRS[pair], (model, twin), strict=True))
    for batch in batches(case):
        take_step(mine, model, case.loss, batch)
        peer_step(theirs, twin, case, batch)
        torch.testing.assert_close(contents(model), contents(twin), **close)


class MeanLoss(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.case.loss(logits, targets).mean()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("adaptive", [False, True], ids=["along the gradient", "adaptive"])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, TIED], ids=str)
def test_gsam_and_its_rho_that_follows_the_learning_rate_agree(
    case: Case, adaptive: bool, base: str, close: dict[str, float]
) -> None:
    model, twin = case.model(), case.model()
    kind, options = BASES[base]
    high = options["lr"]
    one, other = kind(model.parameters(), **options), kind(twin.parameters(), **options)
    mine = GSAM(one, alpha=0.4, ascent=Adaptive(0.0, scope="all") if adaptive else None)
    schedulers = [CosineAnnealingLR(o, T_max=STEPS, eta_min=high / 10) for o in (mine, other)]
    rho = Schedule(mine, "rho", following(mine, low=0.1, high=0.6, lr_low=high / 10, lr_high=high))
    theirs = peer.GSAM(
        twin.parameters(),
        other,
        twin,
        peer.ProportionScheduler(schedulers[1], max_lr=high, min_lr=high / 10, max_value=0.6, min_value=0.1),
        alpha=0.4,
        adaptive=adaptive,
    )
    for x, y in batches(case):
        assert mine.param_groups[0]["rho"] == pytest.approx(theirs.rho_t, abs=1e-15)
        loss = take_step(mine, model, case.loss, (x, y))
        theirs.set_closure(MeanLoss(case), x, y)
        _, peers_loss = theirs.step()
        torch.testing.assert_close(loss, peers_loss, **close)
        torch.testing.assert_close(contents(model), contents(twin), **close)
        for scheduler in schedulers:
            scheduler.step()
        rho.step()
        theirs.update_rho_t()


def test_the_peers_looksam_pays_for_a_second_pass_in_every_step_and_ours_does_not() -> None:
    """The paper's point is to skip it."""
    model, twin = MLP.model(), MLP.model()
    mine, theirs = (make(m, *BASES["sgd"]) for make, m in zip(PAIRS["LookSAM"], (model, twin), strict=True))
    calls: list[list[int]] = []
    for batch in batches(MLP)[:6]:
        forwards = []
        handle = model.register_forward_hook(lambda *_, forwards=forwards: forwards.append(1))
        take_step(mine, model, MLP.loss, batch)
        handle.remove()
        calls.append([len(forwards), peer_step(theirs, twin, MLP, batch)])
    assert calls == [[2, 2], [1, 2], [1, 2]] * 2


def test_norms_over_all_parameters_are_not_the_peers_norms_per_tensor() -> None:
    """Algorithm 1 projects whole gradients; the oracle of that is in the tests of LookSAM."""
    model, twin = MLP.model(), MLP.model()
    mine = LookSAM(SGD(model.parameters(), lr=0.1), rho=0.3, interval=2, alpha=0.7)
    theirs = peer.LookSAM(twin.parameters(), SGD, rho=0.3, k=2, alpha=0.7, lr=0.1)
    first, second = batches(MLP)[:2]
    take_step(mine, model, MLP.loss, first)
    peer_step(theirs, twin, MLP, first)
    torch.testing.assert_close(contents(model), contents(twin), atol=NORMS["single"], rtol=0)
    take_step(mine, model, MLP.loss, second)
    peer_step(theirs, twin, MLP, second)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-4, rtol=0)


def test_a_tiny_gradient_is_normalised_as_the_formula_says_and_not_by_the_peer() -> None:
    """e = rho g / |g| has length rho whatever |g|; with 1e-12 added to a norm of 1e-12 it has half of it."""
    w = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]
    seen: list[list[float]] = [[], []]

    def loss(k: int) -> Tensor:
        seen[k].append(float(w[k].detach()))
        return 1e-12 * w[k].sum()

    def closure(k: int) -> Tensor:
        value = loss(k)
        value.backward()
        return value

    SAM(SGD([w[0]], lr=0.0), rho=0.5).step(lambda: closure(0))
    theirs = peer.SAM([w[1]], SGD, rho=0.5, lr=0.0)
    closure(1)
    theirs.step(lambda: closure(1))
    assert seen[0] == pytest.approx([1.0, 1.5], abs=1e-12)
    assert seen[1] == pytest.approx([1.0, 1.25], abs=1e-6)


def test_the_norm_of_float64_gradients_keeps_its_digits_here_and_not_there() -> None:
    model, twin, third = MLP.model(), MLP.model(), MLP.model()
    x, y = batches(MLP)[0]
    params = list(third.parameters())
    grads = oracles.sam_gradient(params, lambda rows: MLP.loss(third(x[rows]), y[rows]), len(y), [0.3] * len(params))
    oracles.SGD(0.1, 0.0, 0.0).step(params, grads)
    take_step(SAM(SGD(model.parameters(), lr=0.1), rho=0.3), model, MLP.loss, (x, y))
    peer_step(peer.SAM(twin.parameters(), SGD, rho=0.3, lr=0.1), twin, MLP, (x, y))
    mine, theirs = (
        max(float((p - q).detach().abs().max()) for p, q in zip(m.parameters(), params, strict=True))
        for m in (model, twin)
    )
    assert mine < 1e-15
    assert 1e-12 < theirs < 1e-8


def test_running_statistics_move_once_here_and_twice_there() -> None:
    """The official JAX code keeps the statistics of the first pass, at the unperturbed weights."""
    model, twin = BATCH_NORM.model(), BATCH_NORM.model()
    batch = BATCH_NORM.batches()[0]
    take_step(SAM(SGD(model.parameters(), lr=0.1), model=model), model, BATCH_NORM.loss, batch)
    peer_step(peer.SAM(twin.parameters(), SGD, lr=0.1), twin, BATCH_NORM, batch)
    tracked = [[int(b) for n, b in m.named_buffers() if n.endswith("tracked")] for m in (model, twin)]
    assert tracked == [[1, 1], [2, 2]]
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), atol=NORMS["single"], rtol=0)
