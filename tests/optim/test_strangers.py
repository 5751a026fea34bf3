"""Parameters that the optimizer does not own and its passes reach: left as one backward would leave them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases import TAIL
from imbsam.errors import PassError
from imbsam.optim import METHODS, SAM, ImbSAM, SharpnessAware, create
from optim.family import AWAY, PRIORS


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> None:
    torch._dynamo.reset()


EVERY = pytest.mark.parametrize("name", METHODS)
CLASSES = len(TAIL)


class Margin(nn.Module):
    """Cosine logits against class centres that are learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLASSES, 4, dtype=torch.float64))

    def forward(self, embedded: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(8 * F.normalize(embedded) @ F.normalize(self.centres).T, y, reduction="none")


def networks(*, norm: bool = False) -> tuple[nn.Module, Margin, Tensor, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5) if norm else nn.Tanh(), nn.Linear(5, 4)]
    return nn.Sequential(*layers).double(), Margin(), torch.randn(15, 6).double(), torch.arange(15) % CLASSES


def made(name: str, net: nn.Module, **options: object) -> SharpnessAware:
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    if name == "plain":
        options.pop("rho", None)
    if name == "asam":
        options["scope"] = "all"
    return create(name, net, base=base, priors=PRIORS, tail=TAIL, **{"check_rows": False, **options})


@EVERY
@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "batch norm"])
def test_a_loss_with_parameters_gets_the_gradient_of_the_unperturbed_mean_loss(name: str, norm: bool) -> None:
    net, loss, x, y = networks(norm=norm)
    optimizer = made(name, net, rho=0.3)
    for _ in range(3):
        expected = torch.autograd.grad(loss(copy.deepcopy(net)(x), y).mean(), loss.centres)[0]
        loss.zero_grad()
        closure = Looking(net, loss, x, y)
        optimizer.step(closure, targets=y)
        if name in AWAY and not norm:
            expected = closure.first_seen
        torch.testing.assert_close(loss.centres.grad, expected, atol=1e-12, rtol=0)


class Looking:
    """A closure that adds up what each row gives the centres where it is forwarded first."""

    def __init__(self, net: nn.Module, loss: Margin, x: Tensor, y: Tensor) -> None:
        self.net, self.loss, self.x, self.y = net, loss, x, y
        self.seen: set[int] = set()
        self.first_seen = torch.zeros_like(loss.centres)

    def __call__(self, rows: Tensor) -> Tensor:
        losses = self.loss(self.net(self.x[rows]), self.y[rows])
        fresh = torch.tensor([r not in self.seen for r in rows.tolist()])
        self.seen |= set(rows.tolist())
        if bool(fresh.any()):
            mean = losses[fresh].sum() / len(self.y)
            self.first_seen += torch.autograd.grad(mean, self.loss.centres, retain_graph=True)[0]
        return losses


@EVERY
def test_it_is_added_to_what_is_there_and_a_failed_step_adds_nothing(name: str) -> None:
    net, loss, x, y = networks()
    optimizer = made(name, net)
    loss.centres.grad = torch.ones_like(loss.centres)
    with optimizer.passes(y) as passes:
        for p in passes:
            p.backward(loss(net(x[p.rows]), y[p.rows]))
            break
    assert torch.equal(loss.centres.grad, torch.ones_like(loss.centres))
    closure = Looking(net, loss, x, y)
    expected = 1 + torch.autograd.grad(loss(net(x), y).mean(), loss.centres)[0]
    optimizer.step(closure, targets=y)
    if name in AWAY:
        expected = 1 + closure.first_seen
    torch.testing.assert_close(loss.centres.grad, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("clears", [True, False])
def test_an_ordinary_closure_leaves_them_what_its_first_call_gives(clears: bool) -> None:
    net, loss, x, y = networks()
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.3)

    def closure() -> Tensor:
        if clears:
            loss.zero_grad()
        value = loss(net(x), y).mean()
        value.backward()
        return value

    for _ in range(2):
        expected = torch.autograd.grad(loss(net(x), y).mean(), loss.centres)[0]
        loss.centres.grad = torch.ones_like(loss.centres)
        optimizer.step(closure)
        torch.testing.assert_close(loss.centres.grad, expected + (not clears), atol=1e-12, rtol=0)


@EVERY
@pytest.mark.parametrize("known", [False, True], ids=["not known", "model known"])
def test_two_optimizers_on_one_loss_step_as_each_alone(name: str, known: bool) -> None:
    net, loss, x, y = networks()
    whole = nn.ModuleList([net, loss])

    def pair(whole: nn.ModuleList) -> list[SharpnessAware]:
        found = []
        for part in whole:
            optimizer = made(name, part, rho=0.3)
            optimizer.model = whole if known else None
            optimizer._bind()
            found.append(optimizer)
        return found

    def passes(optimizer: SharpnessAware, whole: nn.ModuleList) -> None:
        torch.manual_seed(1)
        with optimizer.passes(y) as passes:
            for p in passes:
                p.backward(whole[1](whole[0](x[p.rows]), y[p.rows]))

    expected = []
    for which in range(2):
        alone = copy.deepcopy(whole)
        passes(pair(alone)[which], alone)
        expected += [p.grad.clone() for p in alone[which].parameters()]
    optimizers = pair(whole)
    for _ in range(2):
        for optimizer in optimizers:
            passes(optimizer, whole)
        torch.testing.assert_close([p.grad for p in whole.parameters()], expected, atol=1e-12, rtol=0)
        # The weights stay, so that the second time is the first again.
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.0
            optimizer.step()
            optimizer.memory.clear()
            optimizer.state.clear()
            optimizer.steps = 0


def test_one_after_the_other_drops_what_the_other_left() -> None:
    net, loss, x, y = networks()
    one, two = SAM(torch.optim.SGD(net.parameters(), lr=0.1)), SAM(torch.optim.SGD(loss.parameters(), lr=0.1))
    for _ in range(3):
        for optimizer in (one, two):
            optimizer.step(lambda rows: loss(net(x[rows]), y[rows]), targets=y)
    assert (one.steps, two.steps) == (3, 3)


def test_passes_of_two_optimizers_that_reach_each_other_are_refused_inside_each_other() -> None:
    net, loss, x, y = networks()
    one, two = SAM(torch.optim.SGD(net.parameters(), lr=0.1)), SAM(torch.optim.SGD(loss.parameters(), lr=0.1))
    before = [p.detach().clone() for p in (*net.parameters(), *loss.parameters())]

    def both_at_once() -> None:
        with one.passes(y) as outer, two.passes(y) as inner:
            for p, _ in zip(outer, inner, strict=True):
                p.backward(loss(net(x[p.rows]), y[p.rows]))

    with pytest.raises(PassError, match="passes of two optimizers are open at the same time"):
        both_at_once()
    assert all(map(torch.equal, before, [*net.parameters(), *loss.parameters()]))


def test_an_optimizer_over_the_same_parameters_voids_the_step_that_waits() -> None:
    net, loss, x, y = networks()
    one, two = (ImbSAM(torch.optim.SGD(net.parameters(), lr=0.1), TAIL, check_rows=False) for _ in range(2))
    for optimizer in (one, two):
        with optimizer.passes(y) as passes:
            for p in passes:
                p.backward(loss(net(x[p.rows]), y[p.rows]))
    with pytest.raises(PassError, match="no finished passes to apply"):
        one.step()
    two.step()


def test_the_way_out_is_the_model_that_holds_both() -> None:
    """A parameter of the model that is given gets the step's gradient: the tail at perturbed weights."""
    net, loss, x, y = networks()
    both = nn.ModuleList([net, loss])
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.3, model=both)
    params = list(net.parameters())
    grads = torch.autograd.grad(loss(net(x), y).mean(), params)
    norm = torch.sqrt(sum((g**2).sum() for g in grads))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p, g in zip(twin.parameters(), grads, strict=True):
            p.add_(g * 0.3 / norm)
    expected = torch.autograd.grad(loss(twin(x), y).mean(), loss.centres)[0]
    optimizer.step(lambda rows: loss(net(x[rows]), y[rows]), targets=y)
    torch.testing.assert_close(loss.centres.grad, expected, atol=1e-12, rtol=0)


def test_one_that_is_given_to_the_optimizer_later_is_its_own() -> None:
    net, loss, x, y = networks()
    optimizer = made("imbsam", net)
    for _ in range(2):
        optimizer.step(lambda rows: loss(net(x[rows]), y[rows]), targets=y)
        loss.zero_grad()
    optimizer.add_param_group({"params": [loss.centres]})
    before = loss.centres.detach().clone()
    optimizer.step(lambda rows: loss(net(x[rows]), y[rows]), targets=y)
    assert not torch.equal(before, loss.centres)
