"""torch's own database of optimizers, each wrapped: what holds for the bare one holds for the wrapped one."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cases import HEAD_AND_TAIL, TAIL
from imbsam.errors import OptionError
from imbsam.optim import METHODS, SharpnessAware, create
from optim.database import OptimizerInfo, OptimizerInput, optim_db
from optim.family import PRIORS
from optim.loops import identical

MAIN = ("plain", "sam", "imbsam", "gsam", "looksam")
WEIGHED = ("sam-drw", "balanced-sam")
"""Their step is that of another loss."""
ROUNDED = ("imbsam", "cc-sam", "focal-sam", "sse-sam")
"""They add up what two groups of rows give, which rounds otherwise."""
REFUSED = {"Adadelta": "an option rho of its own", "LBFGS": "evaluates the loss itself"}
OFFERED = [info for info in optim_db if info.name not in REFUSED]
Y = HEAD_AND_TAIL


def inputs(info: OptimizerInfo) -> list[OptimizerInput]:
    """What the database makes of an optimizer on the CPU; graphs of steps are refused, and need no case."""
    return [each for each in info.optim_inputs_func(device="cpu") if not each.kwargs.get("differentiable")]


def params_for(info: OptimizerInfo) -> list[nn.Parameter]:
    torch.manual_seed(7)
    shapes = [(4, 3), (3, 2)] if info.name == "Muon" else [(4, 3), (3,)]
    return [nn.Parameter(torch.randn(*shape)) for shape in shapes]


def base_of(info: OptimizerInfo, given: OptimizerInput, params: list[nn.Parameter]) -> Optimizer:
    # Groups make and load as one tensor does; the database's learning rates may be tensors.
    return info.optim_cls([{"params": [p]} for p in params], **copy.deepcopy(given.kwargs))


def wrapped(name: str, base: Optimizer, params: list[nn.Parameter], **options: object) -> SharpnessAware:
    if name == "asam":
        options["scope"] = "all"
    return create(name, nn.ParameterList(params), base=base, priors=PRIORS, tail=TAIL, **options)


def losses(info: OptimizerInfo, params: list[nn.Parameter]) -> Callable[[Tensor], Tensor]:
    """The loss of rows; where only sparse gradients are taken, of rows of the weights that a table would look up."""
    scale = torch.linspace(0.5, 2.0, len(Y))

    def of(rows: Tensor) -> Tensor:
        if info.only_supports_sparse_grads:
            found = nn.functional.embedding(rows % 3, params[0], sparse=True)
            return scale[rows] * (found**2).sum(1)
        return scale[rows] * sum((p**2).sum() + p.sum().sin() for p in params)

    return of


def owned(info: OptimizerInfo, params: list[nn.Parameter]) -> list[nn.Parameter]:
    return params[:1] if info.only_supports_sparse_grads else params


def step(optimizer: SharpnessAware, of: Callable[[Tensor], Tensor], seed: int = 0) -> None:
    torch.manual_seed(seed)
    optimizer.step(of, targets=Y)


def start(
    info: OptimizerInfo, given: OptimizerInput, name: str, **options: object
) -> tuple[list[nn.Parameter], SharpnessAware]:
    params = owned(info, params_for(info))
    return params, wrapped(name, base_of(info, given, params), params, **options)


def tensors(params: list[nn.Parameter], optimizer: Optimizer) -> list[Tensor]:
    entries = [v for p in params for _, v in sorted(optimizer.state.get(p, {}).items())]
    return [p.detach().clone() for p in params] + [v.clone() for v in entries if isinstance(v, Tensor)]


def possible(info: OptimizerInfo, given: OptimizerInput) -> bool:
    """Whether the bare optimizer makes a step of it on this machine, as capturable ones do not on a CPU."""
    params = owned(info, params_for(info))
    base = base_of(info, given, params)
    losses(info, params)(torch.arange(len(Y))).mean().backward()
    try:
        base.step()
    except (AssertionError, RuntimeError):
        return False
    return True


def cases() -> Iterator[tuple[OptimizerInfo, OptimizerInput]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from ((info, given) for info in OFFERED for given in inputs(info) if possible(info, given))


CASES = list(cases())
FIRST = [next((info, given) for info, given in CASES if info is each) for each in OFFERED]


def ident(value: object) -> str:
    return value.name if isinstance(value, OptimizerInfo) else getattr(value, "desc", str(value)).replace(" ", "-")


EACH = pytest.mark.parametrize(("info", "given"), CASES, ids=ident)
ONE_EACH = pytest.mark.parametrize(("info", "given"), FIRST, ids=ident)
pytestmark = pytest.mark.filterwarnings("ignore:.*lr as a Tensor.*:UserWarning")


def assert_is_the_base(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    params, optimizer = start(info, given, name, **({} if name == "plain" else {"rho": 0.0}))
    twins = owned(info, params_for(info))
    bare, of, of_twins = base_of(info, given, twins), losses(info, params), losses(info, twins)
    for seed in range(3):
        step(optimizer, of, seed)
        bare.zero_grad()
        # As the passes of a method weigh the rows.
        (of_twins(torch.arange(len(Y))) * (1 / len(Y))).sum().backward()
        bare.step()
        assert identical(tensors(params, optimizer), tensors(twins, bare))


@EACH
def test_the_control_is_the_bare_optimizer_bit_for_bit(info: OptimizerInfo, given: OptimizerInput) -> None:
    assert_is_the_base(info, given, "plain")


@EACH
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name not in (*WEIGHED, *ROUNDED, "plain")])
def test_a_method_without_a_neighbourhood_is_the_bare_optimizer(
    info: OptimizerInfo, given: OptimizerInput, name: str
) -> None:
    assert_is_the_base(info, given, name)


def assert_is_a_citizen(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    """State dicts, copies, hooks, schedulers and groups do what they do for a bare optimizer."""
    params, optimizer = start(info, given, name)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    of = losses(info, params)
    for seed in range(3):
        step(optimizer, of, seed)
        scheduler.step()
    assert calls == ["before", "after"] * 3
    assert str(optimizer)

    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded_params, loaded = start(info, given, name)
    for p, q in zip(loaded_params, params, strict=True):
        p.data.copy_(q.data)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    others = [(loaded_params, loaded)]
    others += [copy.deepcopy((params, optimizer)), pickle.loads(pickle.dumps((params, optimizer)))]
    for seed in range(3, 6):
        step(optimizer, of, seed)
        for twins, other in others:
            step(other, losses(info, twins), seed)
            assert other.state is other.base.state
            assert identical(tensors(twins, other), tensors(params, optimizer))
            assert other.steps == optimizer.steps
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    new = nn.Parameter(torch.ones(4, 3))
    optimizer.add_param_group({"params": [new]})
    assert optimizer.param_groups[-1]["rho"] == optimizer.radii["rho"]
    # One takes only sparse gradients; the other, in older versions, makes its state at construction alone.
    if not isinstance(optimizer.base, torch.optim.SparseAdam | torch.optim.Adagrad):
        optimizer.step(lambda rows: of(rows) + (new**2).sum(), targets=Y)
        assert not torch.equal(new, torch.ones(4, 3))


@ONE_EACH
@pytest.mark.parametrize("name", MAIN)
def test_a_wrapped_optimizer_is_a_citizen(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    assert_is_a_citizen(info, given, name)


@EACH
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_wrapped_optimizer_is_a_citizen(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    if name == "msam" and not keeps_momentum(info, given):
        with pytest.raises(OptionError, match="the base optimizer keeps none"):
            make_two_steps(info, given, name)
        return
    assert_is_a_citizen(info, given, name)


def make_two_steps(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    params, optimizer = start(info, given, name)
    for seed in range(2):
        step(optimizer, losses(info, params), seed)


def keeps_momentum(info: OptimizerInfo, given: OptimizerInput) -> bool:
    params = owned(info, params_for(info))
    base = base_of(info, given, params)
    losses(info, params)(torch.arange(len(Y))).mean().backward()
    base.step()
    kept = [state.get(key) for state in base.state.values() for key in ("momentum_buffer", "exp_avg")]
    return any(isinstance(each, Tensor) for each in kept)


@pytest.mark.parametrize("info", [info for info in optim_db if info.name in REFUSED], ids=ident)
def test_what_cannot_be_a_base_is_refused(info: OptimizerInfo) -> None:
    with pytest.raises(OptionError, match=REFUSED[info.name]):
        wrapped("sam", info.optim_cls(params := params_for(info)), params)


@pytest.mark.parametrize("info", [info for info in OFFERED if "differentiable" in info.supported_impls], ids=ident)
def test_a_differentiable_step_is_refused(info: OptimizerInfo) -> None:
    params = params_for(info)
    with pytest.raises(OptionError, match="with differentiable=True needs the graph"):
        wrapped("sam", info.optim_cls(params, differentiable=True), params)


@ONE_EACH
@pytest.mark.parametrize("name", MAIN)
def test_a_step_without_gradients_moves_nothing(info: OptimizerInfo, given: OptimizerInput, name: str) -> None:
    params, optimizer = start(info, given, name)
    before = [p.detach().clone() for p in params]
    apart = nn.Parameter(torch.ones(2))
    for _ in range(2):
        optimizer.step(lambda rows: apart.sum().expand(len(rows)), targets=Y)
    assert identical([p.detach() for p in params], before)
