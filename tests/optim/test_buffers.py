"""Buffers that a forward changes by itself: moved once a step, at the unperturbed weights, by every method."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, TAIL
from imbsam.errors import NonFiniteError
from imbsam.optim import METHODS, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import identical, sgd, take_step

ROWS, FEATURES, CLASSES = 24, 6, 5


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> None:
    torch._dynamo.reset()


EVERY = pytest.mark.parametrize("name", METHODS)


class InPlace(nn.Module):
    """A moving average that is changed where it lies."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def update(self, x: Tensor) -> None:
        self.mean.lerp_(x.detach().mean(0), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.update(x)
            self.calls += 1
        return x - self.mean


class Replaced(InPlace):
    """One that is put anew into its place."""

    def update(self, x: Tensor) -> None:
        self.mean = self.mean + 0.1 * (x.detach().mean(0) - self.mean)


class BehindTheBack(InPlace):
    """One that is changed without its version telling."""

    def update(self, x: Tensor) -> None:
        self.mean.data.lerp_(x.detach().mean(0), 0.1)


class Unlearnt(InPlace):
    """One that is a parameter without a gradient, as a momentum encoder has."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        del self.mean
        self.mean = nn.Parameter(torch.zeros(size, dtype=torch.float64), requires_grad=False)

    def update(self, x: Tensor) -> None:
        self.mean.data = self.mean.data.lerp(x.detach().mean(0), 0.1)


KINDS = pytest.mark.parametrize("kind", [InPlace, Replaced, BehindTheBack, Unlearnt])


def moving(kind: type[InPlace] = InPlace) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 8).double(), kind(8), nn.ReLU(), nn.Linear(8, CLASSES).double())
    return model


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(ROWS) % CLASSES
    return torch.randn(ROWS, FEATURES, dtype=torch.float64, generator=draw) + y[:, None], y


def method(name: str, model: nn.Module, *, known: bool = True, **options: object) -> SharpnessAware:
    made = create(
        name,
        model,
        base=sgd(model.parameters()),
        priors=PRIORS,
        tail=TAIL,
        **{"check_rows": False, "nonfinite": "raise", **options},
    )
    if not known:
        made.model = None
        made._bind()
    return made


@EVERY
@KINDS
@pytest.mark.parametrize("known", [True, False], ids=["model known", "not known"])
def test_a_step_moves_a_buffer_once_as_a_forward_of_the_batch_does(name: str, kind: type[InPlace], known: bool) -> None:
    model = moving(kind)
    if not known and (kind is Unlearnt or name == "asam"):
        pytest.skip("nobody told the optimizer of the parameter, or of the parameters' names")
    optimizer = method(name, model, known=known)
    for seed in range(4):
        x, y = batch(seed)
        twin = copy.deepcopy(model)
        twin(x)
        take_step(optimizer, model, MLP.loss, (x, y))
        torch.testing.assert_close(model[1].mean, twin[1].mean, atol=1e-12, rtol=0)
        assert int(model[1].calls) == seed + 1


@EVERY
@KINDS
def test_a_refused_step_leaves_buffers_as_they_were(name: str, kind: type[InPlace]) -> None:
    model = moving(kind)
    optimizer = method(name, model)
    take_step(optimizer, model, MLP.loss, batch())
    before = [model[1].mean.clone(), model[1].calls.clone()]
    x, y = batch(1)
    x[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="weights and statistics are unchanged"):
        take_step(optimizer, model, MLP.loss, (x, y))
    assert identical(before, [model[1].mean, model[1].calls])


@EVERY
def test_the_first_step_that_is_refused_leaves_buffers_as_they_were(name: str) -> None:
    model = moving()
    x, y = batch()
    x[0, 0] = torch.nan
    with pytest.raises(NonFiniteError):
        take_step(method(name, model), model, MLP.loss, (x, y))
    assert not bool(model[1].mean.any())
    assert not bool(model[1].calls)


@EVERY
def test_a_module_outside_the_model_with_a_buffer_changes_nothing_of_that(name: str) -> None:
    """As a criterion that has class weights, which is called after the model."""
    model, criterion = BATCH_NORM.model(), nn.CrossEntropyLoss(torch.ones(CLASSES).double(), reduction="none")
    before = [b.clone() for b in model.buffers()]
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    x[0] = torch.nan
    with pytest.raises(NonFiniteError):
        method(name, model).step(lambda rows: criterion(model(x[rows]), y[rows]), targets=y)
    assert identical(before, [*model.buffers()])


def test_every_pass_is_of_the_same_function_of_the_weights() -> None:
    """SAM with whole batches: both gradients with the buffer from before the step."""
    model = moving()
    optimizer = method("sam", model, rho=0.4)
    for seed in range(3):
        x, y = batch(seed)
        twin = copy.deepcopy(model)
        buffers = {k: v.clone() for k, v in twin[1]._buffers.items()}
        params = list(twin.parameters())
        grads = torch.autograd.grad(MLP.loss(twin(x), y).mean(), params)
        norm = torch.sqrt(sum((g**2).sum() for g in grads))
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p.add_(g * 0.4 / norm)
            for k, v in buffers.items():
                twin[1]._buffers[k].copy_(v)
        expected = torch.autograd.grad(MLP.loss(twin(x), y).mean(), params)
        take_step(optimizer, model, MLP.loss, (x, y))
        torch.testing.assert_close([p.grad for p in model.parameters()], list(expected), atol=1e-12, rtol=0)


@EVERY
def test_power_iterations_are_made_once_a_step(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(spectral_norm(nn.Linear(FEATURES, 8)), nn.ReLU(), nn.Linear(8, CLASSES)).double()
    optimizer = method(name, model)
    for seed in range(3):
        x, y = batch(seed)
        twin = copy.deepcopy(model)
        twin(x)
        take_step(optimizer, model, MLP.loss, (x, y))
        assert identical([*model.buffers()], [*twin.buffers()])


def test_buffers_that_stand_still_cost_no_forward_and_no_copy() -> None:
    model = moving()
    model[1].eval()
    optimizer = method("imbsam", model)
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    versions = []
    for seed in range(2):
        take_step(optimizer, model, MLP.loss, batch(seed))
        versions.append(model[1].mean._version)
    tail = int(TAIL[batch()[1]].sum())
    assert sorted(rows) == sorted([tail, tail, ROWS - tail] * 2)
    assert versions[0] == versions[1]


def test_a_buffer_that_moves_takes_a_whole_batch_at_the_weights() -> None:
    """In the first step, where it is found, one forward without a backward more."""
    model = moving()
    optimizer = method("imbsam", model)
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    take_step(optimizer, model, MLP.loss, batch())
    tail = int(TAIL[batch()[1]].sum())
    assert rows == [tail, ROWS, tail, ROWS - tail]
    rows.clear()
    take_step(optimizer, model, MLP.loss, batch(1))
    assert rows == [ROWS, tail, tail]


def test_an_observer_of_quantisation_sees_each_batch_once() -> None:
    quantization = pytest.importorskip("torch.ao.quantization")
    torch.manual_seed(0)
    fake = quantization.FakeQuantize(observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
    model = nn.Sequential(nn.Linear(FEATURES, 8), fake, nn.ReLU(), nn.Linear(8, CLASSES))
    optimizer = method("imbsam", model)
    for seed in range(3):
        x, y = batch(seed)
        twin = copy.deepcopy(model)
        twin(x.float())
        take_step(optimizer, model, MLP.loss, (x.float(), y))
        observed, expected = model[1].activation_post_process, twin[1].activation_post_process
        torch.testing.assert_close((observed.min_val, observed.max_val), (expected.min_val, expected.max_val))
