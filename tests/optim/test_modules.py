"""The modules that a step calls: outside the model, put in later, copied, frozen, lazy, replicated, compiled."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cases import TAIL
from imbsam.errors import OptionError, PassError
from imbsam.optim import METHODS, ImbSAM, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import identical, sgd

EVERY = pytest.mark.parametrize("name", METHODS)
Y = torch.arange(40) % len(TAIL)
X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double() + Y[:, None]


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> None:
    torch._dynamo.reset()


def network(norm: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), norm or nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, len(TAIL))).double()


def made(name: str, model: nn.Module, params: object = None, **options: object) -> SharpnessAware:
    base = sgd(params if params is not None else model.parameters())
    if name == "asam":
        options["scope"] = "all"
    return create(name, model, base=base, priors=PRIORS, tail=TAIL, **{"check_rows": False, **options})


def step(optimizer: SharpnessAware, model: nn.Module) -> None:
    torch.manual_seed(0)
    optimizer.step(lambda rows: F.cross_entropy(model(X[rows]), Y[rows], reduction="none"), targets=Y)


@EVERY
def test_batch_norm_outside_the_model_is_refused_by_name_and_nothing_moves(name: str) -> None:
    encoder, head = nn.Sequential(nn.Linear(6, 8)).double(), nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5)).double()
    optimizer = made(name, encoder, [*encoder.parameters(), *head.parameters()])
    before = [t.clone() for t in (*encoder.state_dict().values(), *head.state_dict().values())]
    with pytest.raises(PassError, match=r"BatchNorm1d, .* not in the Sequential .*nn\.ModuleList\(\[encoder, head\]\)"):
        step(optimizer, nn.Sequential(encoder, head))
    assert identical(before, [*encoder.state_dict().values(), *head.state_dict().values()])
    optimizer.bind(nn.ModuleList([encoder, head]))
    step(optimizer, nn.Sequential(encoder, head))
    assert int(head[0].num_batches_tracked) == 1


@EVERY
def test_a_copy_of_the_model_is_refused_in_the_first_step(name: str) -> None:
    model = network()
    optimizer = made(name, copy.deepcopy(model), model.parameters())
    with pytest.raises(OptionError, match=r"none of the optimizer's parameters \(it may be a copy\)"):
        step(optimizer, model)


@EVERY
@pytest.mark.parametrize("after", [0, 2], ids=["before the first step", "after two"])
def test_batch_norm_that_is_put_in_later_is_as_good_as_from_the_beginning(name: str, after: int) -> None:
    model, twin = network(nn.Identity()), network(nn.Identity())
    optimizer, other = made(name, model), made(name, twin)
    for _ in range(after):
        step(optimizer, model)
        step(other, twin)
    for each in (model, twin):
        each[1] = nn.BatchNorm1d(8, affine=False).double()
    other.bind(twin)
    for _ in range(3):
        step(optimizer, model)
        step(other, twin)
    assert identical([*model.state_dict().values()], [*twin.state_dict().values()])
    assert int(model[1].num_batches_tracked) == 3


class FrozenBatchNorm(nn.Module):
    """As detection models have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.ones(8).double())

    def forward(self, x: Tensor) -> Tensor:
        return x - self.running_mean


@pytest.mark.parametrize("norm", [FrozenBatchNorm(), nn.BatchNorm1d(8).double().eval()], ids=["made so", "by eval()"])
def test_a_frozen_batch_norm_takes_no_context_rows(norm: nn.Module) -> None:
    model = network()
    model[1] = norm
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    optimizer = made("imbsam", model)
    for _ in range(2):
        step(optimizer, model)
    tail = int(TAIL[Y].sum())
    assert rows == [tail, tail, 40 - tail] * 2


def test_instance_norm_sees_no_other_rows_and_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten())
    model.append(nn.Linear(6, 5)).double()
    optimizer = made("imbsam", model)
    twin = copy.deepcopy(model)
    twin(X)
    step(optimizer, model)
    torch.testing.assert_close([*model.buffers()], [*twin.buffers()])


@EVERY
@pytest.mark.parametrize("norm", [True, False])
def test_lazy_modules_are_made_in_the_first_step(name: str, norm: bool) -> None:
    found = []
    for lazy in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.LazyLinear(8), nn.LazyBatchNorm1d() if norm else nn.Identity(), nn.ReLU(), nn.LazyLinear(5)
        ).double()
        if not lazy:
            torch.manual_seed(0)
            model.eval()(X)
            model.train()
        optimizer = made(name, model, batch_statistics="batch")
        for _ in range(2):
            step(optimizer, model)
        found.append([*model.state_dict().values()])
        assert not norm or int(model[1].num_batches_tracked) == 2
    # Directions that are drawn are others where the weights are drawn in the step, too.
    if name not in ("esam", "gnm", "trace-sam", "frob-sam", "det-sam"):
        torch.testing.assert_close(*found, atol=1e-10, rtol=0)


class Replicated(nn.Module):
    """What ``DataParallel`` does with two devices, on one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for part in x.chunk(2):
            copies = {m: m._replicate_for_data_parallel() for m in self.module.modules()}
            for module, made_of_it in copies.items():
                for key, child in module._modules.items():
                    made_of_it._modules[key] = copies[child]
                for key, p in module._parameters.items():
                    setattr(made_of_it, key, p * 1.0)
                for key, b in module._buffers.items():
                    made_of_it._buffers[key] = b.clone()
            outs.append(copies[self.module](part))
        return torch.cat(outs)


def test_a_model_that_is_copied_for_several_devices_takes_whole_batches_or_is_refused() -> None:
    model = network()
    with pytest.raises(PassError, match=r"copies the model for several devices.*batch_statistics=\"batch\""):
        step(made("imbsam", model, context_rows=4), Replicated(model))
    rows: list[int] = []
    model = network()
    wrapped = Replicated(model)
    wrapped.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    step(made("imbsam", model, batch_statistics="batch"), wrapped)
    assert set(rows) == {40}


def test_data_parallel_with_batch_norm_takes_whole_batches_by_itself() -> None:
    model = network()
    wrapped = nn.DataParallel(model)
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    step(made("imbsam", wrapped, model.parameters()), wrapped)
    assert set(rows) == {40}


class Checkpointed(nn.Module):
    def __init__(self, norm: nn.Module, *, reentrant: bool) -> None:
        super().__init__()
        self.inner = network(norm)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.inner, x.clone().requires_grad_(), use_reentrant=self.reentrant)
        return out


@EVERY
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_checkpointing_changes_no_weight(name: str, norm: bool, reentrant: bool) -> None:
    made_of = [nn.BatchNorm1d(8) if norm else nn.Identity() for _ in range(2)]
    model, twin = network(made_of[0]), Checkpointed(made_of[1], reentrant=reentrant)
    optimizers = made(name, model), made(name, twin)
    for _ in range(2):
        step(optimizers[0], model)
        step(optimizers[1], twin)
    torch.testing.assert_close([*model.parameters()], [*twin.parameters()], atol=1e-12, rtol=0)


# Of torch's compiler, about a tensor between two graphs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("what", ["step", "passes", "losses", "model"])
def test_whatever_is_compiled_the_weights_are_those_without(what: str, norm: bool) -> None:
    model, twin = (network(None if norm else nn.Identity()) for _ in range(2))
    optimizer, other = made("imbsam", model), made("imbsam", twin)
    called = torch.compile(model, backend="eager") if what == "model" else model

    def losses(rows: Tensor) -> Tensor:
        return F.cross_entropy(called(X[rows]), Y[rows], reduction="none")

    def whole() -> None:
        optimizer.step(compiled if what == "losses" else losses, targets=Y)

    def by_passes() -> None:
        with optimizer.passes(Y) as passes:
            for p in passes:
                p.backward(losses(p.rows))
        optimizer.step()

    compiled = torch.compile(losses, backend="eager") if what == "losses" else losses
    run = by_passes if what == "passes" else whole
    run = torch.compile(run, backend="eager") if what in ("step", "passes") else run
    for _ in range(2):
        run()
        step(other, twin)
    torch.testing.assert_close([*model.state_dict().values()], [*twin.state_dict().values()], atol=1e-12, rtol=0)
    assert optimizer.steps == 2


def test_the_watch_ends_with_the_first_step() -> None:
    hooks = nn.modules.module._global_forward_pre_hooks
    model = network()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, model=model)
    before = len(hooks)
    with optimizer.passes(Y) as passes:
        assert len(hooks) == before + 1
        for p in passes:
            p.backward(F.cross_entropy(model(X[p.rows]), Y[p.rows], reduction="none"))
    assert len(hooks) == before
    optimizer.step()
    with optimizer.passes(Y):
        assert len(hooks) == before
