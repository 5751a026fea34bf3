"""Wrapper and base are one optimizer: whatever is done to either, by whomever, is done to both."""

import collections
import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from cases import HEAD_AND_TAIL, MLP, TAIL
from imbsam.errors import OptionError, PassError
from imbsam.optim import METHODS, SAM, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import contents, identical, sgd, take_step

EVERY = pytest.mark.parametrize("name", METHODS)
Y = HEAD_AND_TAIL


def made(name: str, model: nn.Module, base: torch.optim.Optimizer, **options: object) -> SharpnessAware:
    return create(name, model, base=base, priors=PRIORS, tail=TAIL, **options)


def step(optimizer: SharpnessAware, model: nn.Module, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed))


def stepped(name: str = "sam", steps: int = 2) -> tuple[nn.Module, SharpnessAware]:
    model = MLP.model()
    optimizer = made(name, model, sgd(model.parameters()))
    for seed in range(steps):
        step(optimizer, model, seed)
    return model, optimizer


# Rebinding


@pytest.mark.parametrize("who", ["wrapper", "base"])
def test_state_and_groups_rebound_on_either_are_rebound_on_both(who: str) -> None:
    model, optimizer = stepped()
    owner = optimizer if who == "wrapper" else optimizer.base
    owner.state = collections.defaultdict(dict)
    assert optimizer.state is optimizer.base.state
    assert not optimizer.state
    owner.param_groups = [{**optimizer.param_groups[0], "params": list(model[2].parameters())}]
    assert optimizer.param_groups is optimizer.base.param_groups
    resting = model[0].weight.detach().clone()
    step(optimizer, model)
    assert torch.equal(model[0].weight, resting)


def test_the_base_loaded_or_grown_by_itself_keeps_each_radius() -> None:
    model = MLP.model()
    groups = [{"params": [p]} for p in model.parameters()]
    optimizer = SAM(sgd(groups[:2]), rho=0.2)
    optimizer.param_groups[1]["rho"] = 0.4
    plain = sgd([{"params": [p]} for p in list(model.parameters())[:2]])
    optimizer.base.load_state_dict(plain.state_dict())
    assert [g["rho"] for g in optimizer.param_groups] == [0.2, 0.4]
    optimizer.base.add_param_group(groups[2])
    assert optimizer.param_groups[2]["rho"] == 0.2
    step(optimizer, model)
    assert optimizer.param_groups is optimizer.base.param_groups


def test_defaults_changed_on_the_wrapper_hold_for_groups_added_later() -> None:
    p, q = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = SAM(sgd([p]))
    optimizer.defaults["lr"] = 7.0
    optimizer.add_param_group({"params": [q]})
    assert optimizer.param_groups[1]["lr"] == 7.0


@pytest.mark.parametrize("how", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"])
def test_a_copy_is_one_optimizer_again(how: Callable[[object], tuple[nn.Module, SharpnessAware]]) -> None:
    _, optimizer = how(stepped())
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults.maps[0] is optimizer.base.defaults


@pytest.mark.parametrize("group", [[nn.Parameter(torch.ones(2))], "params", None], ids=["list", "text", "none"])
def test_what_is_no_group_is_the_type_error_of_torch(group: object) -> None:
    with pytest.raises(TypeError, match="param_group must be a dict"):
        SAM(sgd(MLP.model().parameters())).add_param_group(group)


# Hooks


def test_every_hook_runs_once_and_survives_a_load() -> None:
    model, optimizer = stepped()
    names = (
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
        "step_pre",
        "step_post",
    )
    calls: collections.Counter[str] = collections.Counter()
    for owner in (optimizer, optimizer.base):
        for name in names:
            label = f"{type(owner).__name__} {name}"
            getattr(owner, f"register_{name}_hook")(lambda *_, label=label: calls.update([label]))
    for turn in (1, 2):
        step(optimizer, model)
        optimizer.load_state_dict(optimizer.state_dict())
        assert set(calls.values()) == {turn}
        assert len(calls) == 2 * len(names)


def test_state_hooks_may_change_what_is_saved_and_loaded() -> None:
    _, optimizer = stepped()
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {**state, "sharpness": {**state["sharpness"], "steps": 9}}
    )
    state = optimizer.state_dict()
    assert state["note"] == 1
    optimizer.load_state_dict(state)
    assert optimizer.steps == 9
    assert state["sharpness"]["steps"] == 2


@pytest.mark.parametrize("scheduled", ["nothing", "wrapper", "base"])
def test_global_hooks_run_once_a_step_with_the_wrapper(scheduled: str) -> None:
    model, optimizer = stepped()
    owners = {"wrapper": optimizer, "base": optimizer.base}
    scheduler = torch.optim.lr_scheduler.StepLR(owners[scheduled], 1) if scheduled in owners else None
    own: list[str] = []
    optimizer.base.register_step_pre_hook(lambda *_: own.append("before"))
    optimizer.base.register_step_post_hook(lambda *_: own.append("after"))
    seen: list[object] = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: seen.append(o)),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(o)),
    ]
    try:
        step(optimizer, model)
    finally:
        for handle in handles:
            handle.remove()
    assert len(seen) == 2
    assert all(o is optimizer for o in seen)
    assert own == ["before", "after"]
    if scheduler is not None:
        scheduler.step()


# Schedule-free bases


class Averaged(torch.optim.SGD):
    """The interface of schedule-free optimizers: two places, one to train at and one to evaluate."""

    def __init__(self, params: object) -> None:
        super().__init__(params, lr=0.1)
        for group in self.param_groups:
            group["train_mode"] = True

    def _switch(self, on: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != on:
                for p in group["params"]:
                    p.data.add_(-1.0 if on else 1.0)
            group["train_mode"] = on

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)


def test_modes_are_there_exactly_where_the_base_has_them() -> None:
    optimizer = SAM(sgd(MLP.model().parameters()))
    assert not hasattr(optimizer, "train")
    assert not hasattr(optimizer, "eval")
    assert hasattr(SAM(Averaged(MLP.model().parameters())), "train")


def test_a_base_that_evaluates_is_not_trained() -> None:
    model = MLP.model()
    optimizer = SAM(Averaged(model.parameters()))
    step(optimizer, model)
    start = model[0].weight.detach().clone()
    optimizer.eval()
    assert torch.equal(model[0].weight, start + 1)
    for call in (lambda: optimizer.passes(Y), lambda: step(optimizer, model)):
        with pytest.raises(PassError, match=r"Averaged is in evaluation mode.*optimizer\.train\(\) before the passes"):
            call()
    optimizer.train()
    with optimizer.passes(Y) as passes:
        with pytest.raises(PassError, match=r"eval\(\) inside open passes"):
            optimizer.eval()
        for p in passes:
            p.backward(MLP.loss(model(MLP.batch(Y)[0][p.rows]), Y[p.rows]))
    optimizer.eval()
    with pytest.raises(PassError, match="evaluation mode"):
        optimizer.step()
    optimizer.train()
    optimizer.step()
    assert optimizer.steps == 2


# Maximize


def quartic(p: Tensor, sign: int) -> Callable[[Tensor], Tensor]:
    scale = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.1, 0.7, 1.3], dtype=torch.float64)
    return lambda rows: sign * ((p - scale[rows][:, None]) ** 4).sum(1)


@EVERY
def test_maximising_minus_a_function_visits_what_minimising_it_visits(name: str) -> None:
    found = []
    for sign, maximize in ((1, False), (-1, True)):
        p = nn.Parameter(torch.tensor([0.4, -1.2, 2.0], dtype=torch.float64))
        base = torch.optim.SGD([("weight", p)], lr=0.001, momentum=0.9, maximize=maximize)
        optimizer = made(name, nn.ParameterDict({"weight": p}), base)
        visited: list[Tensor] = []

        def closure(rows: Tensor, p: Tensor = p, sign: int = sign, visited: list[Tensor] = visited) -> Tensor:
            visited.append(p.detach().clone())
            return quartic(p, sign)(rows)

        for seed in range(6):
            torch.manual_seed(seed)
            optimizer.step(closure, targets=Y)
        found.append([*visited, p.detach().clone()])
    assert identical(*found)


@pytest.mark.parametrize("name", ["esam", "det-sam"])
def test_methods_that_go_by_the_loss_refuse_groups_that_part(name: str) -> None:
    p, q = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    base = torch.optim.SGD([{"params": [p]}, {"params": [q], "maximize": True}], lr=0.1)
    optimizer = made(name, nn.ParameterList([p, q]), base, rho=0.1)
    with pytest.raises(OptionError, match="some groups maximize it and others do not"):
        optimizer.step(lambda rows: (p * q).sum() + 0 * rows, targets=Y)
    assert torch.equal(p, torch.ones(2))


# Complex weights


@pytest.mark.parametrize("name", [name for name in METHODS if name != "asam"])
def test_complex_weights_learn_as_their_real_and_imaginary_parts(name: str) -> None:
    """Adaptive neighbourhoods go by the modulus of a weight, which its parts have not."""
    start = torch.tensor([1 + 2j, -0.5 + 0.3j], dtype=torch.complex128)
    goal = torch.tensor([0.2 - 1j, 1.5 + 0.4j, 0.9j, -1.0, 0.1j, 1j, 2.0], dtype=torch.complex128)
    whole, parts = nn.Parameter(start.clone()), nn.Parameter(torch.view_as_real(start).clone())
    for p, values in ((whole, lambda: whole), (parts, lambda: torch.view_as_complex(parts))):
        optimizer = made(name, nn.ParameterList([p]), torch.optim.SGD([p], lr=0.01, momentum=0.9))
        for seed in range(6):
            torch.manual_seed(seed)
            optimizer.step(lambda rows, values=values: ((values() - goal[rows][:, None]).abs() ** 4).sum(1), targets=Y)
    torch.testing.assert_close(torch.view_as_real(whole.detach()), parts.detach(), atol=1e-10, rtol=1e-10)


# No gradient anywhere


@EVERY
def test_a_step_without_any_gradient_moves_nothing(name: str) -> None:
    model, apart = MLP.model(), nn.Linear(6, 5)
    optimizer = made(name, model, sgd(model.parameters()))
    before = contents(model)
    x = MLP.batch(Y)[0].float()
    for _ in range(2):
        optimizer.step(lambda rows: MLP.loss(apart(x[rows]), Y[rows]), targets=Y)
    assert identical(contents(model), before)
    assert optimizer.steps == 2


# Bases that cannot make the step


class Needy(torch.optim.SGD):
    def step(self, closure: Callable[[], float] | None = None) -> None:
        if closure is None:
            raise RuntimeError("a closure is needed")


class Curved(torch.optim.SGD):
    def step(self, closure: object = None, hessian: object = None) -> None: ...


class Announced(torch.optim.SGD):
    is_second_order = True


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Needy([p], lr=0.1), "Needy evaluates the loss itself"),
        (lambda p: torch.optim.LBFGS([p]), "LBFGS evaluates the loss itself"),
        (lambda p: Curved([p], lr=0.1), "Curved needs the graph of the gradient"),
        (lambda p: Announced([p], lr=0.1), "needs the graph of the gradient"),
        (lambda p: torch.optim.Adam([p], differentiable=True), "Adam with differentiable=True needs the graph"),
    ],
    ids=["closure", "LBFGS", "hessian", "second order", "differentiable"],
)
def test_a_base_that_cannot_step_along_a_gradient_is_refused(make: Callable[..., object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        SAM(make(nn.Parameter(torch.ones(2))))
