"""Several bases under one method: one perturbation over all parameters, a step of each, one state dict."""

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import Optimizer, lr_scheduler

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import METHODS, SAM, ImbSAM, SharpnessAware, WeightedSAM, create
from imbsam.optim._several import Several
from optim.family import GRADIENTS, PRIORS, halves
from optim.loops import adamw, contents, copied, identical, sgd, take_step


def pair(model: nn.Module, *rhos: float, **options: Any) -> list[Optimizer]:
    """SGD for the first half of the parameters, AdamW for the second; with a rho each, if there are two."""
    given = [
        {"params": half, **rho} for half, rho in zip(halves(model), [{"rho": r} for r in rhos] or [{}, {}], strict=True)
    ]
    return [sgd(given[:1], **options), adamw(given[1:], **options)]


def over_two(name: str, model: nn.Module, *rhos: float, **options: Any) -> SharpnessAware:
    return create(name, model, base=pair(model, *rhos), priors=PRIORS, tail=TAIL, **options)


# Against loops written out


@pytest.mark.parametrize("rhos", [(0.3, 0.3), (0.3, 0.1)], ids=str)
@pytest.mark.parametrize("case", [MLP, EMBEDDING, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_one_perturbation_over_all_and_a_step_of_each(name: str, case: Case, rhos: tuple[float, float]) -> None:
    model, twin = case.model(), case.model()
    optimizer = over_two(name, model, *rhos, batch_statistics="batch")
    (first, second), params = halves(twin), list(twin.parameters())
    each = [rhos[0]] * len(first) + [rhos[1]] * len(second)
    written_out = oracles.SGD(0.1, 0.9, 0.01), oracles.AdamW(0.01, (0.9, 0.999), 1e-6, 0.1)
    for x, y in case.batches():

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return case.loss(twin(x[rows]), y[rows])

        grads = GRADIENTS[name](params, losses_of, y, each)
        written_out[0].step(first, grads[: len(first)])
        written_out[1].step(second, grads[len(first) :])
        take_step(optimizer, model, case.loss, (x, y))
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_without_a_perturbation_each_makes_its_own_step_bit_for_bit(name: str) -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, plain = over_two(name, model), pair(twin)
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.0))
    for x, y in MLP.batches(torch.float32):
        take_step(optimizer, model, MLP.loss, (x, y))
        losses = MLP.loss(twin(x), y)
        weighed = isinstance(optimizer, WeightedSAM)
        loss = (losses * (optimizer.weights[y] / len(y)).to(losses)).sum() if weighed else losses.mean()
        twin.zero_grad()
        loss.backward()
        for each in plain:
            each.step()
        assert identical(contents(model, optimizer), contents(twin, *plain))


KINDS: Sequence[Callable[..., Optimizer]] = (sgd, adamw, torch.optim.RMSprop, torch.optim.Muon)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=4, max_size=4))
def test_however_the_parameters_are_shared_out(places: list[tuple[int, int]]) -> None:
    """Any of three bases for each parameter, of any kind, in any order, in groups of one."""

    def shared_out(model: nn.Module) -> list[Optimizer]:
        made = []
        for number in sorted({base for base, _ in places}):
            own = [p for p, (base, _) in zip(model.parameters(), places, strict=True) if base == number]
            kind = KINDS[next(kind for base, kind in places if base == number)]
            if kind is torch.optim.Muon and any(p.ndim != 2 for p in own):
                kind = sgd
            made.append(kind([{"params": [p]} for p in own], lr=0.02))
        return made

    model, twin, resumed = MLP.model(), MLP.model(), MLP.model()
    optimizer, plain = SAM(shared_out(model), rho=0.0), shared_out(twin)
    after = SAM(shared_out(resumed), rho=9.0)
    for number, (x, y) in enumerate(MLP.batches()):
        take_step(optimizer, model, MLP.loss, (x, y))
        twin.zero_grad()
        MLP.loss(twin(x), y).mean().backward()
        for each in plain:
            each.step()
        if number == 2:
            resumed.load_state_dict(model.state_dict())
            after.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        if number > 2:
            take_step(after, resumed, MLP.loss, (x, y))
    assert identical(contents(model, optimizer), contents(twin, *plain))
    assert identical(contents(model, optimizer), contents(resumed, after))


# Two optimizers on losses of their own


@pytest.mark.parametrize("methods", [("sam", "sam"), ("imbsam", "sam"), ("sam", "imbsam")], ids=str)
def test_two_methods_on_two_losses_step_apart(methods: tuple[str, str]) -> None:
    """A generator and a critic, each with passes of its own, against two loops written out."""

    def networks() -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 6)).double(), MLP.model()

    made: dict[str, Callable[[Optimizer, nn.Module], SharpnessAware]] = {
        "sam": lambda base, model: SAM(base, rho=0.3, model=model),
        "imbsam": lambda base, model: ImbSAM(base, TAIL, rho=0.3, model=model),
    }
    generator, critic = networks()
    of_generator = made[methods[0]](adamw(generator.parameters()), generator)
    of_critic = made[methods[1]](sgd(critic.parameters()), critic)
    twin_generator, twin_critic = networks()
    params = list(twin_generator.parameters()), list(twin_critic.parameters())
    written_out = oracles.AdamW(0.01, (0.9, 0.999), 1e-6, 0.1), oracles.SGD(0.1, 0.9, 0.01)

    for number, (real, y) in enumerate(MLP.batches()):
        noise = torch.randn(len(y), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        both, labels = torch.cat([real, generator(noise).detach()]), torch.cat([y, (y + 1) % 5])
        of_critic.step(lambda rows, x=both, t=labels: MLP.loss(critic(x[rows]), t[rows]), targets=labels)
        critic.requires_grad_(False)
        of_generator.step(lambda rows, z=noise, t=y: MLP.loss(critic(generator(z[rows])), t[rows]), targets=y)
        critic.requires_grad_(True)

        both = torch.cat([real, twin_generator(noise).detach()])
        grads = GRADIENTS[methods[1]](
            params[1], lambda rows, x=both, t=labels: MLP.loss(twin_critic(x[rows]), t[rows]), labels, [0.3] * 4
        )
        written_out[1].step(params[1], grads)
        grads = GRADIENTS[methods[0]](
            params[0], lambda rows, z=noise, t=y: MLP.loss(twin_critic(twin_generator(z[rows])), t[rows]), y, [0.3] * 4
        )
        written_out[0].step(params[0], grads)
        torch.testing.assert_close(list(generator.parameters()), params[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(list(critic.parameters()), params[1], atol=1e-12, rtol=0)


# One optimizer: groups, state, checkpoints, copies


def trained(name: str = "imbsam", steps: int = 3) -> tuple[nn.Module, SharpnessAware]:
    model = MLP.model()
    optimizer = over_two(name, model)
    for batch in MLP.batches()[:steps]:
        take_step(optimizer, model, MLP.loss, batch)
    return model, optimizer


def test_the_groups_are_those_of_the_bases_in_order() -> None:
    model = MLP.model()
    bases = pair(model, 0.3, 0.1)
    optimizer = SAM(bases, rho=0.5)
    assert [id(group) for group in optimizer.param_groups] == [id(g) for base in bases for g in base.param_groups]
    assert [group["rho"] for group in optimizer.param_groups] == [0.3, 0.1]
    assert {p for base in bases for group in base.param_groups for p in group["params"]} == set(model.parameters())


def test_the_state_is_that_of_the_bases() -> None:
    model, optimizer = trained()
    one, other = optimizer.base.optimizers
    weights = [layer.weight for layer in (model[0], model[2])]
    assert set(optimizer.state[weights[0]]) == {"momentum_buffer"}
    assert set(optimizer.state[weights[1]]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[weights[1]] is other.state[weights[1]]
    assert list(optimizer.state) == [*one.state, *other.state]
    assert len(optimizer.state) == 4
    assert torch.zeros(1) not in optimizer.state
    del optimizer.state[weights[1]]
    assert weights[1] not in other.state
    optimizer.state[weights[1]] = {"step": 7}
    assert other.state[weights[1]] == {"step": 7}
    with pytest.raises(KeyError):
        optimizer.state[torch.zeros(1)] = {}


def test_groups_and_state_that_a_base_got_anew_are_seen() -> None:
    model, optimizer = trained()
    adam = optimizer.base.optimizers[1]
    groups = optimizer.base.param_groups
    assert optimizer.base.param_groups is groups
    saved = copy.deepcopy(adam.state_dict())
    saved["param_groups"][0]["lr"] = 0.7
    adam.load_state_dict(saved)
    assert optimizer.base.param_groups[1] is adam.param_groups[0]
    assert optimizer.base.param_groups[1]["lr"] == 0.7
    assert optimizer.base.state[model[2].weight] is adam.state[model[2].weight]


def test_groups_and_state_may_be_set_for_all() -> None:
    model, optimizer = trained()
    several = optimizer.base
    several.param_groups = [{**group, "lr": 0.4} for group in several.param_groups]
    several.state = {p: {"step": torch.ones(())} for p in model.parameters()}
    assert [base.param_groups[0]["lr"] for base in several.optimizers] == [0.4, 0.4]
    assert [len(base.state) for base in several.optimizers] == [2, 2]
    several.state = several.state
    assert len(several.state) == 4
    with pytest.raises(OptionError, match=r"SGD and AdamW have groups of \[2, 2\] parameters, .* have \[2\]"):
        several.param_groups = several.param_groups[:1]
    with pytest.raises(KeyError):
        several.state = {torch.zeros(1): {}}
    assert len(several.state) == 4


@pytest.mark.parametrize("name", ["sam", "imbsam", "looksam", "friendly-sam"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(name: str) -> None:
    model, optimizer = trained(name)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = MLP.model()
    resumed.load_state_dict(saved["model"])
    fresh = create(name, resumed, base=pair(resumed, 9.0, 8.0, lr=77.0), priors=PRIORS, tail=TAIL)
    fresh.load_state_dict(saved["optimizer"])
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        take_step(fresh, resumed, MLP.loss, batch)
        assert identical(contents(model, optimizer), contents(resumed, fresh))


def test_the_state_dict_is_that_of_one_optimizer() -> None:
    model, optimizer = trained()
    saved = optimizer.base.state_dict()
    assert set(saved) == {"state", "param_groups"}
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2, 3]]
    for number, p in enumerate(model.parameters()):
        assert saved["state"][number] is optimizer.state[p]


def test_distributed_checkpoints_carry_the_state_of_all() -> None:
    model, optimizer = trained()
    several = optimizer.base
    saved = copy.deepcopy(get_optimizer_state_dict(model, several))
    resumed = MLP.model()
    resumed.load_state_dict(model.state_dict())
    fresh = Several(pair(resumed, lr=77.0))
    set_optimizer_state_dict(resumed, fresh, saved)
    assert identical(contents(several), contents(fresh))
    assert [group["lr"] for group in fresh.param_groups] == [0.1, 0.01]


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_goes_on_like_the_original(how: str) -> None:
    model, optimizer = trained()
    lr_scheduler.StepLR(optimizer.base.optimizers[0], 1)
    twin, other = copied(how, (model, optimizer))
    assert type(other.base) is Several
    assert {id(p) for group in other.param_groups for p in group["params"]} == {id(p) for p in twin.parameters()}
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        assert identical(contents(model, optimizer), contents(twin, other))
    assert repr(other).startswith("ImbSAM([SGD (")


class Counting(torch.optim.SGD):
    """Keeps a count beside the parameters' state, one in it under a name, and has a mode, as some optimizers do."""

    def __init__(self, params: object, lr: float) -> None:
        super().__init__(params, lr, momentum=0.9)
        self.made = 0
        self.mode = "train"

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        super().step(closure)
        self.made += 1
        self.state["made"] = self.made

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "made": self.made}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.made = state_dict["made"]

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"


def test_what_a_base_keeps_beside_its_parameters_is_saved_and_loaded() -> None:
    model = MLP.model()
    first, second = halves(model)
    several = Several([sgd(first), Counting(second, 0.1)])
    for number in range(3):
        model(torch.full((1, 6), float(number), dtype=torch.float64)).sum().backward()
        several.step()
    saved = copy.deepcopy(several.state_dict())
    fresh = Several([sgd(first), Counting(second, 0.1)])
    fresh.load_state_dict(saved)
    counting = fresh.optimizers[1]
    assert counting.made == 3
    assert counting.state["made"] == 3
    assert fresh.state["made"] == 3
    for p in model.parameters():
        assert torch.equal(fresh.state[p]["momentum_buffer"], several.state[p]["momentum_buffer"])


def test_the_modes_are_there_where_one_of_them_has_them() -> None:
    first, second = halves(MLP.model())
    several = Several([sgd(first), Counting(second, 0.1)])
    several.eval()
    assert several.optimizers[1].mode == "eval"
    several.train()
    assert several.optimizers[1].mode == "train"
    without = Several(pair(MLP.model()))
    assert not hasattr(without, "train")
    assert not hasattr(without, "eval")


def test_a_state_dict_of_other_groups_is_refused_before_anything_is_loaded() -> None:
    model, optimizer = trained()
    before = contents(optimizer)
    other = SAM([sgd(list(model.parameters())[:1]), adamw(list(model.parameters())[1:])]).state_dict()
    with pytest.raises(OptionError, match=r"have groups of \[2, 2\] parameters, .* have \[1, 3\]"):
        optimizer.load_state_dict(other)
    assert identical(before, contents(optimizer))


# Schedulers, hooks, gradients, groups added later


def halved(step: int) -> float:
    return 0.5**step


@pytest.mark.parametrize("number", [0, 1])
def test_a_scheduler_on_one_of_the_bases_moves_it_alone(number: int) -> None:
    model, optimizer = trained(steps=0)
    scheduler = lr_scheduler.LambdaLR(optimizer.base.optimizers[number], halved)
    for batch in MLP.batches()[:2]:
        take_step(optimizer, model, MLP.loss, batch)
        scheduler.step()
    rates = [0.1, 0.01]
    rates[number] *= 0.25
    assert [group["lr"] for group in optimizer.param_groups] == rates


def test_a_scheduler_on_the_wrapper_moves_all_and_one_on_a_base_comes_on_top() -> None:
    model, optimizer = trained(steps=0)
    over_all = lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.5)
    over_one = lr_scheduler.MultiplicativeLR(optimizer.base.optimizers[0], lambda step: 0.1)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    over_all.step()
    over_one.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.005])


def test_a_schedule_that_one_of_the_bases_cannot_follow_is_refused() -> None:
    """OneCycleLR asks the defaults for a momentum; SGD's is none of AdamW's."""
    with pytest.raises(ValueError, match="momentum"):
        lr_scheduler.OneCycleLR(SAM(pair(MLP.model())), 0.1, 10)


def test_hooks_of_each_base_fire_once_a_step_in_order() -> None:
    model, optimizer = trained(steps=0)
    fired: list[str] = []
    one, other = optimizer.base.optimizers
    for owner, name in ((optimizer, "method"), (optimizer.base, "all"), (one, "one"), (other, "other")):
        owner.register_step_pre_hook(lambda *_, name=name: fired.append(f"{name} before"))
        owner.register_step_post_hook(lambda *_, name=name: fired.append(f"{name} after"))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    each = ["one before", "one after", "other before", "other after"]
    assert fired == ["method before", "all before", *each, "all after", "method after"]


def test_gradients_of_all_are_cleared() -> None:
    model, optimizer = trained()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    several = Several(pair(model))
    model(torch.ones(1, 6, dtype=torch.float64)).sum().backward()
    several.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())


def test_a_closure_is_called_once() -> None:
    model = MLP.model()
    called: list[Tensor] = []

    def closure() -> Tensor:
        called.append(model(torch.ones(1, 6, dtype=torch.float64)).sum())
        called[-1].backward()
        return called[-1]

    before = contents(model)
    assert Several(pair(model)).step(closure) is called[0]
    assert len(called) == 1
    assert not any(torch.equal(old, new) for old, new in zip(before, contents(model), strict=True))


def test_a_group_is_added_to_the_base_that_is_named() -> None:
    _, optimizer = trained()
    late = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer.add_param_group({"params": [late], "base": 1, "rho": 0.7})
    assert optimizer.base.optimizers[1].param_groups[1]["params"] == [late]
    assert [group["rho"] for group in optimizer.base.param_groups] == [0.05, 0.05, 0.7]
    assert "base" not in optimizer.base.param_groups[2]


@pytest.mark.parametrize("named", [{}, {"base": 2}, {"base": -1}, {"base": "SGD"}], ids=str)
def test_a_group_for_no_base_is_refused(named: dict[str, object]) -> None:
    _, optimizer = trained()
    with pytest.raises(OptionError, match=r"say which optimizer gets the group.*SGD and AdamW are numbered from 0"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], **named})


def test_a_group_that_is_no_dictionary_is_refused_as_torch_does() -> None:
    with pytest.raises(TypeError, match="param_group must be a dict"):
        Several(pair(MLP.model())).add_param_group([nn.Parameter(torch.ones(1))])


def test_a_group_with_a_parameter_of_another_base_is_not_added() -> None:
    model, optimizer = trained()
    with pytest.raises(OptionError, match=r"a parameter of shape \(8, 6\) is in SGD and in AdamW"):
        optimizer.add_param_group({"params": [model[0].weight], "base": 1})
    assert len(optimizer.base.param_groups) == 2


# What cannot be


class Apart(torch.optim.SGD):
    """Its state dict has another form, as that of an optimizer that wraps another."""

    def state_dict(self) -> dict[str, Any]:
        return {"wrapped": super().state_dict()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b: [], r"base must be an optimizer instance, .* or a list of such instances; got \[\]"),
        (lambda a, b: (), "or a list of such instances"),
        (lambda a, b: iter([sgd(a)]), "or a list of such instances"),
        (lambda a, b: {"a": sgd(a)}, "or a list of such instances"),
        (lambda a, b: "sgd", "or a list of such instances; got 'sgd'"),
        (lambda a, b: [sgd(a), torch.optim.AdamW], "base must be an optimizer instance"),
        (lambda a, b: [sgd(a), b], "base must be an optimizer instance"),
        (lambda a, b: [[sgd(a)], sgd(b)], "base must be an optimizer instance"),
        (lambda a, b: [sgd(a), adamw([*b, a[0]])], r"a parameter of shape \(8, 6\) is in SGD and in AdamW"),
        (lambda a, b: [sgd(a + b), sgd(a[1:])], r"a parameter of shape \(8,\) is in SGD and in SGD"),
        (lambda a, b: [sgd(a)] * 2, r"a parameter of shape \(8, 6\) is in SGD and in SGD"),
        (lambda a, b: [sgd(a), torch.optim.LBFGS(b)], "LBFGS"),
        (lambda a, b: [sgd(a), torch.optim.Adadelta(b)], "an option rho of its own"),
        (lambda a, b: [sgd(a), SAM(sgd(b))], "an option rho of its own"),
        (lambda a, b: [sgd(a), Apart(b, 0.1)], "the state dict of Apart has a special form"),
        (
            lambda a, b: [sgd(a), torch.optim.SGD([("a", b[0]), ("b", b[1])])],
            "some of these optimizers know the names of their parameters, and others do not",
        ),
    ],
)
def test_what_cannot_be_a_base_is_refused(make: Callable[..., Any], message: str) -> None:
    first, second = halves(MLP.model())
    with pytest.raises(OptionError, match=message):
        SAM(make(first, second))


def test_a_tuple_or_a_single_one_will_do() -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = SAM((sgd(model.parameters()),)), SAM(sgd(twin.parameters()))
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model, one), contents(twin, other))
