"""A citizen of torch.optim: groups, state, checkpoints, hooks, schedulers, scalers, autocast, compile."""

import copy
import io
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from cases import BATCH_NORM, BATCHES, CASES, COUPLED, HEAD_AND_TAIL, MLP, NO_TAIL, ONLY_TAIL, TAIL, Case
from imbsam.errors import NonFiniteError, OptionError, PassError
from imbsam.optim import SAM, Gradient, ImbSAM, Plain, SharpnessAware
from optim.loops import (
    METHODS,
    adamw,
    contents,
    copied,
    identical,
    imbsam,
    make_passes,
    plain_step,
    sgd,
    take_step,
)

BASES = {"sgd": sgd, "adamw": adamw}


def trained(case: Case, method: object, make: object, steps: int) -> tuple[nn.Module, SharpnessAware]:
    model = case.model(torch.float32)
    optimizer = method(case, model, make(model.parameters()), rho=0.3)
    for seed in range(steps):
        take_step(optimizer, model, case.loss, case.batch(BATCHES[seed % 5], seed, torch.float32))
    return model, optimizer


def plain(case: Case, model: nn.Module, base: Optimizer, rho: float) -> Plain:
    return Plain(base, model=model)


# Groups and state


@pytest.mark.parametrize("method", METHODS)
def test_groups_and_state_are_those_of_the_base(method: object) -> None:
    model, optimizer = trained(MLP, method, adamw, 2)
    assert isinstance(optimizer, Optimizer)
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert set(optimizer.state[model[0].weight]) == {"step", "exp_avg", "exp_avg_sq"}


def test_the_base_keeps_its_own_options() -> None:
    optimizer = ImbSAM(adamw(MLP.model().parameters(), betas=(0.8, 0.9)), TAIL, rho=0.2)
    (group,) = optimizer.param_groups
    assert group["betas"] == (0.8, 0.9)
    assert group["rho"] == 0.2
    assert optimizer.defaults["betas"] == (0.8, 0.9)


def test_rho_of_a_group_is_kept_and_looked_up_at_every_step() -> None:
    model, twin = MLP.model(), MLP.model()
    one = ImbSAM(sgd([{"params": list(model.parameters()), "rho": 0.4}]), TAIL, rho=0.1)
    other = imbsam(MLP, twin, rho=0.1)
    other.param_groups[0]["rho"] = 0.4
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("given", [{}, {"rho": 0.3}], ids=str)
def test_a_group_added_later_is_trained_and_perturbed(given: dict[str, float]) -> None:
    model, twin = MLP.model(), MLP.model()
    grown = imbsam(MLP, model, sgd(model[0].parameters()), rho=0.1)
    grown.add_param_group({"params": list(model[2].parameters()), "lr": 0.5, **given})
    whole = imbsam(
        MLP,
        twin,
        sgd([{"params": twin[0].parameters()}, {"params": twin[2].parameters(), "lr": 0.5, **given}]),
        rho=0.1,
    )
    for batch in MLP.batches():
        take_step(grown, model, MLP.loss, batch)
        take_step(whole, twin, MLP.loss, batch)
    assert grown.param_groups[1]["rho"] == given.get("rho", 0.1)
    assert len(grown.base.param_groups) == 2
    assert identical(contents(model), contents(twin))


def test_named_parameters_keep_their_names() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model, torch.optim.SGD(model.named_parameters(), lr=0.1))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    optimizer.load_state_dict(optimizer.state_dict())


# Options


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["argument", "group", "added group"])
def test_rho_out_of_range_is_refused(rho: float, where: str) -> None:
    params = list(MLP.model().parameters())
    ways = {
        "argument": lambda: SAM(sgd(params), rho=rho),
        "group": lambda: SAM(sgd([{"params": params, "rho": rho}])),
        "added group": lambda: SAM(sgd(params[:1])).add_param_group({"params": params[1:], "rho": rho}),
    }
    with pytest.raises(OptionError, match="rho must be finite and at least 0"):
        ways[where]()


def test_a_refused_group_is_not_added() -> None:
    params = list(MLP.model().parameters())
    optimizer = SAM(sgd(params[:1]))
    with pytest.raises(OptionError):
        optimizer.add_param_group({"params": params[1:], "rho": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("base", [torch.optim.SGD, MLP.model(), [nn.Parameter(torch.ones(1))], None], ids=repr)
def test_a_base_that_is_no_optimizer_instance_is_refused(base: object) -> None:
    with pytest.raises(OptionError, match=r"base must be an optimizer instance, such as SGD\(model.parameters\(\)"):
        SAM(base)


@pytest.mark.parametrize("make", [torch.optim.Adadelta, lambda params: SAM(sgd(params))], ids=["Adadelta", "SAM"])
def test_a_base_with_a_rho_of_its_own_is_refused(make: Callable[..., Optimizer]) -> None:
    """Adadelta's decay of 0.9 would be taken for the neighbourhood size."""
    with pytest.raises(OptionError, match="an option rho of its own"):
        SAM(make(MLP.model().parameters()), rho=0.05)


@pytest.mark.parametrize("context_rows", [0, -1])
def test_context_without_rows_is_refused(context_rows: int) -> None:
    with pytest.raises(OptionError, match="context_rows must be a whole number, at least 1"):
        SAM(sgd(MLP.model().parameters()), context_rows=context_rows)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(OptionError, match="batch_statistics must be 'batch' or 'context'; got 'first'"):
        SAM(sgd(MLP.model().parameters()), batch_statistics="first")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32], ids=str)
def test_targets_of_any_integer_type_are_classes(dtype: torch.dtype) -> None:
    model, twin = MLP.model(), MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    imbsam(MLP, model).step(lambda rows: MLP.loss(model(x[rows]), y[rows]), targets=y.to(dtype))
    take_step(imbsam(MLP, twin), twin, MLP.loss, (x, y))
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Rprop,
        torch.optim.ASGD,
        torch.optim.Adamax,
        torch.optim.Adafactor,
    ],
    ids=lambda make: make.__name__,
)
def test_any_base_optimizer_makes_the_step(make: Callable[..., Optimizer]) -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer, base = imbsam(MLP, model, make(model.parameters(), lr=0.01)), make(twin.parameters(), lr=0.01)
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        for p, q in zip(twin.parameters(), model.parameters(), strict=True):
            p.grad = q.grad.clone()
        base.step()
    assert identical(contents(model), contents(twin))


def test_the_plain_control_is_the_base_optimizer_bit_for_bit() -> None:
    for case in CASES:
        model, twin = case.model(torch.float32), case.model(torch.float32)
        optimizer, base = Plain(sgd(model.parameters()), model=model), sgd(twin.parameters())
        for batch in case.batches(torch.float32):
            take_step(optimizer, model, case.loss, batch)
            plain_step(base, twin, case.loss, batch)
        assert identical(contents(model, optimizer), contents(twin, base)), case.name


# Checkpoints and copies


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(case: Case, method: object, base: str) -> None:
    model, optimizer = trained(case, method, BASES[base], 4)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = case.model(torch.float32)
    resumed.load_state_dict(saved["model"])
    fresh = method(case, resumed, BASES[base](resumed.parameters(), lr=77.0), rho=55.0)
    fresh.load_state_dict(saved["optimizer"])
    assert fresh.param_groups is fresh.base.param_groups
    assert fresh.state is fresh.base.state
    for seed in range(4, 9):
        batch = case.batch(BATCHES[seed % 5], seed, torch.float32)
        take_step(optimizer, model, case.loss, batch)
        take_step(fresh, resumed, case.loss, batch)
        assert identical(contents(model, optimizer), contents(resumed, fresh))


def test_a_checkpoint_holds_the_bases_state_and_rho_alone() -> None:
    _, optimizer = trained(MLP, imbsam, sgd, 3)
    state = optimizer.state_dict()
    assert {key for entry in state["state"].values() for key in entry} == {"momentum_buffer"}
    assert state["param_groups"][0]["rho"] == 0.3
    assert identical(contents(optimizer), [entry["momentum_buffer"] for entry in state["state"].values()]), (
        "momentum as the base has it"
    )


def test_the_state_of_a_plain_base_loads_and_each_group_keeps_its_rho() -> None:
    model, twin = MLP.model(), MLP.model()
    plain = sgd([{"params": twin[0].parameters()}, {"params": twin[2].parameters()}])
    for batch in MLP.batches():
        plain_step(plain, twin, MLP.loss, batch)
    optimizer = imbsam(
        MLP, model, sgd([{"params": model[0].parameters()}, {"params": model[2].parameters(), "rho": 0.4}]), rho=0.2
    )
    # torch loads tensors of the right dtype without a copy.
    optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.4]
    assert identical(contents(optimizer), contents(plain))
    model.load_state_dict(twin.state_dict())
    take_step(optimizer, model, MLP.loss, MLP.batch(NO_TAIL))
    plain_step(plain, twin, MLP.loss, MLP.batch(NO_TAIL))
    assert identical(contents(model), contents(twin))


def test_the_checkpoint_loads_into_a_plain_base() -> None:
    _, optimizer = trained(MLP, imbsam, adamw, 3)
    plain = adamw(MLP.model(torch.float32).parameters())
    plain.load_state_dict(optimizer.state_dict())
    assert identical(contents(plain), contents(optimizer))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("method", [*METHODS, plain])
def test_a_copy_goes_on_like_the_original(method: object, case: Case, how: str) -> None:
    model, optimizer = trained(case, method, adamw, 3)
    optimizer.ascent = Gradient(damping=0.25)
    twin, other = copied(how, (model, optimizer))
    assert type(other) is type(optimizer)
    assert other.model is twin
    assert other.param_groups is other.base.param_groups
    assert {id(p) for g in other.param_groups for p in g["params"]} == {id(p) for p in twin.parameters()}
    for batch in case.batches(torch.float32):
        take_step(optimizer, model, case.loss, batch)
        take_step(other, twin, case.loss, batch)
        assert identical(contents(model, optimizer), contents(twin, other))
    other.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    lr_scheduler.StepLR(other, 1)
    other.zero_grad()
    assert repr(other) == repr(other)


def test_the_name_shows_the_base() -> None:
    assert repr(imbsam(MLP, MLP.model())).startswith("ImbSAM(SGD (")


# Hooks and schedulers


@pytest.mark.parametrize("method", METHODS)
def test_step_hooks_fire_once_a_step(method: object) -> None:
    model = MLP.model()
    optimizer = method(MLP, model)
    fired: list[str] = []
    for owner, name in ((optimizer, "wrapper"), (optimizer.base, "base")):
        owner.register_step_pre_hook(lambda *_, name=name: fired.append(f"{name} before"))
        owner.register_step_post_hook(lambda *_, name=name: fired.append(f"{name} after"))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    expected = ["wrapper before", "base before", "base after", "wrapper after"]
    assert fired == expected
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert fired == expected
    optimizer.step()
    assert fired == expected * 2


SCHEDULERS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=2),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=3),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 4),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.2, step_size_up=2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=8),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=10.0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.01, anneal_epochs=3),
}


SCORES = {"ReduceLROnPlateau": (1.0,)}
"""What the step of a scheduler takes, where it takes anything."""


def test_the_table_of_schedulers_is_complete() -> None:
    known = {
        n for n, c in vars(lr_scheduler).items() if isinstance(c, type) and issubclass(c, lr_scheduler.LRScheduler)
    }
    assert known - {"LRScheduler", "_LRScheduler"} <= SCHEDULERS.keys()


@pytest.mark.parametrize("built_on", ["wrapper", "base"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_moves_what_it_would_move_on_the_base(name: str, base: str, built_on: str) -> None:
    """Learning rates and momenta follow the plain run's, and no warning says that the order is wrong."""
    make = BASES[base]
    model, twin = MLP.model(), MLP.model()
    optimizer, plain = imbsam(MLP, model, make(model.parameters())), make(twin.parameters())
    one = SCHEDULERS[name](optimizer if built_on == "wrapper" else optimizer.base)
    other = SCHEDULERS[name](plain)
    with warnings.catch_warnings():
        # SequentialLR passes the epoch that its own torch deprecates.
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step", category=UserWarning)
        for seed in range(6):
            take_step(optimizer, model, MLP.loss, MLP.batch(NO_TAIL, seed))
            plain_step(plain, twin, MLP.loss, MLP.batch(NO_TAIL, seed))
            for scheduler in (one, other):
                scheduler.step(*SCORES.get(name, ()))
            for mine, theirs in zip(optimizer.param_groups, plain.param_groups, strict=True):
                assert {k: v for k, v in mine.items() if k not in ("params", *optimizer.options)} == {
                    k: v for k, v in theirs.items() if k != "params"
                }
            assert identical(contents(model), contents(twin))


def test_a_scheduler_goes_on_after_the_state_is_loaded() -> None:
    """Loading replaces the groups; a scheduler that held the old ones would move nothing."""
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    scheduler.step()
    assert optimizer.base.param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_scheduler_may_move_rho() -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer = imbsam(MLP, model, rho=0.4)
    batch = MLP.batch(HEAD_AND_TAIL)
    optimizer.param_groups[0]["rho"] = 0.0
    take_step(optimizer, model, MLP.loss, batch)
    plain_step(sgd(twin.parameters()), twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


# Numbers that are not finite


def poisoned_batch(case: Case, where: str) -> tuple[Tensor, Tensor]:
    x, y = case.batch(HEAD_AND_TAIL)
    row = int((TAIL[y] if where == "tail" else ~TAIL[y]).nonzero()[0])
    x[row] = float("nan")
    return x, y


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["head", "tail"])
@pytest.mark.parametrize("case", [MLP, *COUPLED], ids=str)
def test_a_row_that_is_nan_leaves_everything_as_it_was(case: Case, where: str, method: object, base: str) -> None:
    model = case.model()
    optimizer = method(case, model, BASES[base](model.parameters()))
    take_step(optimizer, model, case.loss, case.batch(HEAD_AND_TAIL, 1))
    before = contents(model, optimizer)
    with pytest.raises(NonFiniteError, match="NaN or infinite; weights and statistics are unchanged"):
        take_step(optimizer, model, case.loss, poisoned_batch(case, where))
    assert identical(before, contents(model, optimizer))
    make_passes(optimizer, model, case.loss, poisoned_batch(case, where))
    with pytest.raises(NonFiniteError):
        optimizer.step()
    assert identical(before, contents(model, optimizer))
    with pytest.raises(PassError, match="no finished passes"):
        optimizer.step()
    take_step(optimizer, model, case.loss, case.batch(HEAD_AND_TAIL, 2))
    assert all(bool(t.isfinite().all()) for t in contents(model, optimizer))


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("targets", [NO_TAIL, ONLY_TAIL, HEAD_AND_TAIL], ids=["no tail", "only tail", "mixed"])
def test_a_loss_that_is_not_finite_is_named(targets: Tensor, bad: float) -> None:
    """The gradient may be finite all the same: the loss was shifted by a constant."""
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(targets)
    before = contents(model)
    with pytest.raises(NonFiniteError, match=r"^the loss of this step"):
        optimizer.step(lambda rows: MLP.loss(model(x[rows]), y[rows]) + bad, targets=y)
    assert identical(before, contents(model))


def test_a_large_loss_is_no_error() -> None:
    """Finite, though its square leaves float32."""
    model = MLP.model(torch.float32)
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    loss = optimizer.step(lambda rows: MLP.loss(model(x[rows]), y[rows]) + 1e30, targets=y)
    assert float(loss) == pytest.approx(1e30)
    assert optimizer.steps == 1


def test_an_ascent_gradient_that_overflows_is_named() -> None:
    """Finite elements whose squares leave float32: the norm is infinite, and the step would silently be plain."""
    p = nn.Parameter(torch.ones(2))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1))
    with pytest.raises(NonFiniteError, match=r"^an ascent gradient of this step"):
        optimizer.step(lambda rows: (1e25 * p).sum().expand(len(rows)), targets=NO_TAIL)
    assert torch.equal(p.detach(), torch.ones(2))


def test_a_gradient_that_overflows_at_the_perturbed_weights_is_named() -> None:
    p = nn.Parameter(torch.zeros(1))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1), rho=1.0)
    with pytest.raises(NonFiniteError, match=r"^the gradient of this step"):
        optimizer.step(lambda rows: ((100 * p).exp() - 1).sum().expand(len(rows)), targets=NO_TAIL)
    assert torch.equal(p.detach(), torch.zeros(1))


def test_a_good_step_after_a_bad_one_equals_a_run_without_it() -> None:
    model, twin = BATCH_NORM.model(), BATCH_NORM.model()
    one, other = imbsam(BATCH_NORM, model), imbsam(BATCH_NORM, twin)
    for batch in BATCH_NORM.batches():
        with pytest.raises(NonFiniteError):
            take_step(one, model, BATCH_NORM.loss, poisoned_batch(BATCH_NORM, "tail"))
        take_step(one, model, BATCH_NORM.loss, batch)
        take_step(other, twin, BATCH_NORM.loss, batch)
        assert identical(contents(model, one), contents(twin, other))


# Mixed precision


def scaled_passes(
    scaler: torch.amp.GradScaler,
    optimizer: SharpnessAware,
    model: nn.Module,
    case: Case,
    batch: tuple[Tensor, Tensor],
    dtype: torch.dtype = torch.float32,
) -> None:
    x, y = batch
    with optimizer.passes(y) as passes:
        for p in passes:
            with torch.autocast("cpu", dtype=torch.float16, enabled=dtype == torch.float16):
                logits = model(x[p.rows])
            p.backward(scaler.scale(case.loss(logits.float(), y[p.rows])))
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_grad_scaler_changes_nothing_but_rounding(case: Case, method: object) -> None:
    model, twin = case.model(torch.float32), case.model(torch.float32)
    one, other = method(case, model, rho=0.3), method(case, twin, rho=0.3)
    scaler = torch.amp.GradScaler("cpu")
    for batch in case.batches(torch.float32):
        scaled_passes(scaler, one, model, case, batch)
        make_passes(other, twin, case.loss, batch)
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        other.step()
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_an_overflow_under_a_grad_scaler_skips_the_step_and_drops_the_scale(case: Case) -> None:
    model = case.model(torch.float32)
    optimizer = imbsam(case, model)
    batch = case.batch(HEAD_AND_TAIL, dtype=torch.float32)
    take_step(optimizer, model, case.loss, batch)
    weights = [p.detach().clone() for p in model.parameters()] + contents(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    scaled_passes(scaler, optimizer, model, case, batch, torch.float16)
    assert identical(weights, [p.detach().clone() for p in model.parameters()] + contents(optimizer))
    assert scaler.get_scale() == 2.0**23
    while scaler.get_scale() > 2.0**12:
        scaler.update(scaler.get_scale() / 2)
    scaled_passes(scaler, optimizer, model, case, batch, torch.float16)
    assert not identical(weights[:1], contents(model)[:1])
    assert scaler.get_scale() == 2.0**12
    assert all(bool(t.isfinite().all()) for t in contents(model))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_autocast_around_the_passes_equals_autocast_around_each_forward(case: Case, method: object) -> None:
    """Autocast keeps the weights it has cast; kept over the perturbation, they would undo it."""
    model, twin = case.model(torch.float32), case.model(torch.float32)
    one, other = method(case, model, rho=1.0), method(case, twin, rho=1.0)
    for x, y in case.batches(torch.float32):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            make_passes(one, model, case.loss, (x, y))
        with other.passes(y) as passes:
            for p in passes:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    losses = case.loss(twin(x[p.rows]), y[p.rows])
                p.backward(losses)
        one.step()
        other.step()
        assert identical(contents(model), contents(twin))


def test_parameters_that_no_loss_reaches_stay_as_they_are() -> None:
    apart, model = MLP.model(), MLP.model()
    optimizer = SAM(sgd(apart.parameters()))
    before = contents(apart)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(contents(apart), before)
    assert optimizer.steps == 1


def test_a_new_optimizer_has_made_and_skipped_nothing() -> None:
    optimizer = SAM(sgd(MLP.model().parameters()))
    assert (optimizer.steps, optimizer.skipped, optimizer.skipped_in_a_row, optimizer.memory) == (0, 0, 0, {})
