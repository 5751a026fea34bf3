"""What every registered method promises; a new one is held to all of it by being registered."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from inspect import Parameter, signature

import pytest
import torch
from torch import Tensor, nn

from cases import (
    BATCH_NORM,
    BATCHES,
    HEAD_AND_TAIL,
    MLP,
    ROUTED,
    TAIL,
    Case,
    Words,
    frozen_layer,
    squared_error,
    tokens,
)
from imbsam.errors import NonFiniteError, OptionError, PassError
from imbsam.optim import METHODS, SharpnessAware, create, options_of
from optim.family import AWAY, BASES, GROUPS, OF_ONE_PASS, PRIORS, made
from optim.loops import contents, gradients, identical, make_passes, take_step
from optim.test_sharpness_aware import SCHEDULERS, SCORES

FROZEN = Case("frozen layer", frozen_layer)
EVERY = pytest.mark.parametrize("name", METHODS)
BASE = pytest.mark.parametrize("base", BASES)
GROUPED = pytest.mark.parametrize("groups", GROUPS)
GROUPED_CASES = pytest.mark.parametrize(
    ("groups", "case"), [("one group", BATCH_NORM), ("several groups", MLP)], ids=lambda value: str(value)
)


def kept(optimizer: SharpnessAware) -> list[Tensor]:
    """Copies of what method and ascent keep, in the order of their names."""
    return [t.clone() for _, part in sorted(optimizer.memory.items()) for t in part.values()]


def everything(model: nn.Module, optimizer: SharpnessAware) -> list[Tensor]:
    return contents(model, optimizer) + kept(optimizer)


def step(optimizer: SharpnessAware, model: nn.Module, case: Case, number: int, dtype: torch.dtype) -> Tensor:
    """Step ``number`` of a run: its batch and its random numbers do not hang on the steps before."""
    torch.manual_seed(number)
    return take_step(optimizer, model, case.loss, case.batch(BATCHES[number % len(BATCHES)], number, dtype))


def weights_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


# The passes


@EVERY
@GROUPED
@pytest.mark.parametrize("case", [MLP, BATCH_NORM, ROUTED], ids=str)
def test_weights_after_the_passes_are_bitwise_those_before(name: str, groups: str, case: Case) -> None:
    model = case.model(torch.float32)
    optimizer = made(name, model, groups=groups)
    moved = False
    # Some methods perturb in their first step, others need what an earlier one has left.
    for number in range(2):
        before = weights_of(model)
        x, y = case.batch(HEAD_AND_TAIL, number, dtype=torch.float32)
        torch.manual_seed(number)
        with optimizer.passes(y) as passes:
            for p in passes:
                moved = moved or not identical(before, weights_of(model))
                p.backward(case.loss(model(x[p.rows]), y[p.rows]))
        assert identical(before, weights_of(model))
        optimizer.step()
    assert moved == (name != "plain")


class LossError(Exception):
    pass


@EVERY
@BASE
@GROUPED_CASES
def test_everything_is_as_it_was_when_the_loss_raises_in_any_pass(
    name: str, base: str, groups: str, case: Case
) -> None:
    model = case.model(torch.float32)
    optimizer = made(name, model, base=base, groups=groups)
    step(optimizer, model, case, 0, torch.float32)
    x, y = case.batch(HEAD_AND_TAIL, 1, torch.float32)
    before = everything(model, optimizer)
    for failing in range(40):
        calls: list[int] = []

        def closure(rows: Tensor, calls: list[int] = calls, failing: int = failing) -> Tensor:
            losses = case.loss(model(x[rows]), y[rows])
            calls.append(len(rows))
            if len(calls) > failing:
                raise LossError
            return losses

        torch.manual_seed(1)
        try:
            optimizer.step(closure, targets=y)
        except LossError:
            assert identical(before, everything(model, optimizer))
            assert all(p.grad is None for p in model.parameters())
            assert (optimizer.steps, optimizer.skipped) == (1, 0)
        else:
            break
    assert failing >= 1
    assert not identical(before, everything(model, optimizer))


@EVERY
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_the_loss_is_the_batch_mean_at_the_unperturbed_weights(name: str, targets: Tensor, case: Case) -> None:
    """In the second step; rows that a method does not forward there count where they are: once each."""
    model = case.model()
    optimizer = made(name, model, rho=0.7)
    step(optimizer, model, case, 0, torch.float64)
    twin = copy.deepcopy(model)
    x, y = case.batch(targets)
    at_the_weights = torch.zeros(len(y), dtype=torch.bool)
    elsewhere = torch.zeros(len(y), dtype=torch.float64)

    def closure(rows: Tensor) -> Tensor:
        losses = case.loss(model(x[rows]), y[rows])
        if identical(weights_of(model), weights_of(twin)):
            at_the_weights[rows] = True
        else:
            elsewhere[rows] = torch.where(elsewhere[rows] == 0, losses.detach(), elsewhere[rows])
        return losses

    loss = optimizer.step(closure, targets=y)
    expected = torch.where(at_the_weights, case.loss(twin(x), y).detach(), elsewhere)
    torch.testing.assert_close(loss, expected.mean(), atol=1e-12, rtol=0)
    assert bool(at_the_weights.all()) or (name in AWAY and not case.coupled)
    assert not loss.requires_grad
    assert loss.shape == ()


@EVERY
@pytest.mark.parametrize("statistics", ["batch", "context"])
def test_running_statistics_move_once_a_step_at_the_unperturbed_weights(name: str, statistics: str) -> None:
    model = BATCH_NORM.model()
    optimizer = made(name, model, batch_statistics=statistics, context_rows=2)
    for x, y in BATCH_NORM.batches():
        plain = copy.deepcopy(model)
        plain(x)
        take_step(optimizer, model, BATCH_NORM.loss, (x, y))
        assert identical(list(model.buffers()), list(plain.buffers()))


@EVERY
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", [MLP, ROUTED], ids=str)
def test_micro_batches_equal_the_whole_batch(name: str, size: int, case: Case) -> None:
    whole, parts = case.model(), case.model()
    one, other = made(name, whole), made(name, parts)
    for number, (x, y) in enumerate(case.batches()):
        torch.manual_seed(number)
        expected = make_passes(one, whole, case.loss, (x, y))
        torch.manual_seed(number)
        with other.passes(y) as passes:
            for p in passes:
                for part in p.split(size):
                    part.backward(case.loss(parts(x[part.rows]), y[part.rows]))
        torch.testing.assert_close(passes.loss, expected.loss, atol=1e-12, rtol=0)
        one.step()
        other.step()
        torch.testing.assert_close(contents(parts), contents(whole), atol=1e-10, rtol=0)


@EVERY
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_step_by_closure_equals_the_loop_over_the_passes(name: str, case: Case) -> None:
    model, twin = case.model(), case.model()
    one, other = made(name, model), made(name, twin)
    for number, batch in enumerate(case.batches()):
        torch.manual_seed(number)
        take_step(one, model, case.loss, batch)
        torch.manual_seed(number)
        make_passes(other, twin, case.loss, batch)
        other.step()
        assert identical(everything(model, one), everything(twin, other))


@EVERY
@BASE
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_the_ordinary_closure_equals_the_passes_or_is_refused_with_the_right_call(
    name: str, base: str, case: Case
) -> None:
    model, twin = case.model(), case.model()
    one, other = made(name, model, base=base), made(name, twin, base=base)
    before = everything(model, one)
    for number, (x, y) in enumerate(case.batches()):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            one.zero_grad()
            loss = case.loss(model(x), y).mean()
            loss.backward()
            return loss

        torch.manual_seed(number)
        if one.class_aware or one.row_wise:
            needs = "class" if one.class_aware else "loss"
            with pytest.raises(
                TypeError,
                match=rf"needs the {needs} of each row: step\(lambda rows: .*targets=y\), with reduction='none'",
            ):
                one.step(closure)
            assert identical(before, everything(model, one))
            continue
        loss = one.step(closure)
        torch.manual_seed(number)
        torch.testing.assert_close(loss, take_step(other, twin, case.loss, (x, y)), atol=1e-12, rtol=0)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-10, rtol=0)


# A citizen of torch.optim


@EVERY
@BASE
@GROUPED
def test_groups_and_state_are_the_bases_and_hold_no_perturbation(name: str, base: str, groups: str) -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer = made(name, model, base=base, groups=groups)
    plain = BASES[base][0](twin.parameters())
    for number in range(2):
        step(optimizer, model, MLP, number, torch.float64)
    x, y = MLP.batch(HEAD_AND_TAIL)
    MLP.loss(twin(x), y).mean().backward()
    plain.step()
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert {k for s in optimizer.state.values() for k in s} == {k for s in plain.state.values() for k in s}
    assert len(optimizer.param_groups) == 1 + (groups != "one group")


@EVERY
@BASE
@GROUPED_CASES
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(name: str, base: str, groups: str, case: Case) -> None:
    """Saved before the first step, in the middle of an epoch and at its end; one batch is bad and skipped."""

    def start() -> tuple[nn.Module, SharpnessAware]:
        model = case.model(torch.float32)
        return model, made(name, model, base=base, groups=groups, nonfinite="skip", total_steps=6)

    def go(model: nn.Module, optimizer: SharpnessAware, first: int, last: int) -> None:
        for number in range(first, last):
            if number == 1:
                x, y = case.batch(HEAD_AND_TAIL, dtype=torch.float32)
                take_step(optimizer, model, case.loss, (x * torch.nan, y))
            else:
                step(optimizer, model, case, number, torch.float32)

    model, optimizer = start()
    files, held = {}, {}
    for first, stop in ((0, 0), (0, 4), (4, 8)):
        go(model, optimizer, first, stop)
        files[stop], held[stop] = io.BytesIO(), everything(model, optimizer)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, files[stop])
    assert (optimizer.steps, optimizer.skipped) == (7, 1)
    for stop, file in files.items():
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed, after = start()
        for group in after.param_groups:
            group.update(lr=77.0, rho=55.0)
        resumed.load_state_dict(saved["model"])
        after.load_state_dict(saved["optimizer"])
        assert identical(everything(resumed, after), held[stop])
        go(resumed, after, stop, 8)
        assert identical(everything(resumed, after), held[8])
        assert (after.steps, after.skipped) == (7, 1)
        assert sorted(after.memory) == sorted(optimizer.memory)


@EVERY
@BASE
@pytest.mark.parametrize("how", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"])
def test_a_copy_goes_on_like_the_original(
    name: str, base: str, how: Callable[[object], tuple[nn.Module, SharpnessAware]]
) -> None:
    model = MLP.model(torch.float32)
    optimizer = made(name, model, base=base, groups="several groups", total_steps=5)
    for number in range(3):
        step(optimizer, model, MLP, number, torch.float32)
    twin, other = how((model, optimizer))
    assert other.model is twin
    for number in range(3, 8):
        step(optimizer, model, MLP, number, torch.float32)
        step(other, twin, MLP, number, torch.float32)
        assert identical(everything(model, optimizer), everything(twin, other))
    assert (other.steps, repr(other)) == (8, repr(optimizer))


@EVERY
def test_every_scheduler_of_torch_moves_what_it_would_move_on_the_base(name: str) -> None:
    for scheduler, make in SCHEDULERS.items():
        model, twin = MLP.model(), MLP.model()
        optimizer, plain = made(name, model), BASES["sgd"][0](twin.parameters())
        one, other = make(optimizer), make(plain)
        with warnings.catch_warnings():
            # SequentialLR passes the epoch that its own torch deprecates.
            warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step", category=UserWarning)
            for number in range(3):
                step(optimizer, model, MLP, number, torch.float64)
                plain.step()
                for each in (one, other):
                    each.step(*SCORES.get(scheduler, ()))
                (mine,), (theirs,) = optimizer.param_groups, plain.param_groups
                moved = {k: v for k, v in mine.items() if k not in ("params", *optimizer.options)}
                assert moved == {k: v for k, v in theirs.items() if k != "params"}, scheduler


@EVERY
def test_named_parameters_keep_their_names_and_train_alike(name: str) -> None:
    model, twin = MLP.model(), MLP.model()
    named = create(
        name, model, base=torch.optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9), priors=PRIORS, tail=TAIL
    )
    nameless = create(
        name, twin, base=torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9), priors=PRIORS, tail=TAIL
    )
    for number in range(3):
        step(named, model, MLP, number, torch.float64)
        step(nameless, twin, MLP, number, torch.float64)
    assert identical(contents(model), contents(twin))
    assert named.state_dict()["param_groups"][0]["param_names"] == [n for n, _ in model.named_parameters()]


@EVERY
@BASE
def test_a_group_added_later_is_trained_and_perturbed(name: str, base: str) -> None:
    model, twin = MLP.model(), MLP.model()
    make = BASES[base][0]
    grown = create(name, model, base=make(model[0].parameters()), priors=PRIORS, tail=TAIL, **own_rho(name))
    grown.add_param_group({"params": list(model[2].parameters()), "lr": 0.05})
    given = [{"params": list(twin[0].parameters())}, {"params": list(twin[2].parameters()), "lr": 0.05}]
    whole = create(name, twin, base=make(given), priors=PRIORS, tail=TAIL, **own_rho(name))
    for number in range(4):
        step(grown, model, MLP, number, torch.float64)
        step(whole, twin, MLP, number, torch.float64)
    assert len(grown.base.param_groups) == 2
    assert identical(contents(model), contents(twin))


def own_rho(name: str) -> dict[str, float]:
    return {"rho": 0.2} if "rho" in options_of(name) else {}


@EVERY
def test_step_hooks_fire_once_a_step(name: str) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    fired: list[str] = []
    for owner, label in ((optimizer, "wrapper"), (optimizer.base, "base")):
        owner.register_step_pre_hook(lambda *_, label=label: fired.append(f"{label} before"))
        owner.register_step_post_hook(lambda *_, label=label: fired.append(f"{label} after"))
    for number in range(3):
        step(optimizer, model, MLP, number, torch.float64)
    assert fired == ["wrapper before", "base before", "base after", "wrapper after"] * 3


@EVERY
def test_open_passes_refuse_a_step_a_checkpoint_and_a_copy(name: str) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    with optimizer.passes(HEAD_AND_TAIL):
        for call in (optimizer.step, optimizer.state_dict, lambda: copy.deepcopy(optimizer)):
            with pytest.raises(PassError, match="inside open passes"):
                call()


# Parameters of every kind


@EVERY
@BASE
def test_frozen_layers_stay_as_they_are(name: str, base: str) -> None:
    model = FROZEN.model()
    optimizer = made(name, model, base=base)
    before, free = contents(model[0]), contents(model[2])
    for number in range(3):
        step(optimizer, model, FROZEN, number, torch.float64)
    assert identical(before, contents(model[0]))
    assert all(p.grad is None for p in model[0].parameters())
    assert not identical(free, contents(model[2]))


@EVERY
@BASE
def test_a_parameter_that_no_loss_reaches_stays_as_it_is(name: str, base: str) -> None:
    """Not even weight decay moves it: it has no gradient, which is not a gradient of zero."""
    model = ROUTED.model()
    optimizer = made(name, model, base=base, groups="several groups")
    before = model.unused.detach().clone()
    for number in range(4):
        step(optimizer, model, ROUTED, number, torch.float64)
        assert model.unused.grad is None
    assert torch.equal(before, model.unused.detach())


@EVERY
def test_sparse_gradients_train_as_dense_ones_do(name: str) -> None:
    sparse = Case("sparse", lambda: Words(sparse=True), tokens, squared_error)
    dense = Case("dense", Words, tokens, squared_error)
    model, twin = sparse.model(), dense.model()
    one, other = (
        create(
            name,
            m,
            base=torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
            priors=PRIORS,
            tail=TAIL,
            **own_rho(name),
        )
        for m in (model, twin)
    )
    for number in range(5):
        step(one, model, sparse, number, torch.float64)
        step(other, twin, dense, number, torch.float64)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-11, rtol=0)


# Numbers that are not finite


@EVERY
@BASE
@GROUPED_CASES
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_a_row_that_is_nan_leaves_everything_as_it_was(
    name: str, base: str, groups: str, nonfinite: str, case: Case
) -> None:
    model = case.model()
    optimizer = made(name, model, base=base, groups=groups, nonfinite=nonfinite)
    for number in range(2):
        step(optimizer, model, case, number, torch.float64)
    before = everything(model, optimizer)
    for row in (0, 1):
        x, y = case.batch(HEAD_AND_TAIL, 7)
        x[row] = torch.nan
        if nonfinite == "raise":
            with pytest.raises(NonFiniteError, match="NaN or infinite; weights and statistics are unchanged"):
                take_step(optimizer, model, case.loss, (x, y))
        else:
            assert bool(take_step(optimizer, model, case.loss, (x, y)).isnan())
        assert identical(before, everything(model, optimizer))
        assert optimizer.steps == 2
        assert optimizer.skipped == (row + 1 if nonfinite == "skip" else 0)
    step(optimizer, model, case, 3, torch.float64)
    assert optimizer.steps == 3
    assert all(bool(t.isfinite().all()) for t in everything(model, optimizer))


# Arguments


@EVERY
def test_an_unknown_option_is_refused_with_the_list_of_valid_ones(name: str) -> None:
    model = MLP.model()
    with pytest.raises(OptionError, match=f"{name} has no option 'radius'; its options are ") as raised:
        create(name, model, priors=PRIORS, tail=TAIL, radius=0.1)
    listed = str(raised.value).split("its options are ")[1].rstrip(".").split(", ")
    assert set(options_of(name)) | {"model", "batch_statistics", "context_rows", "row_multiple", "nonfinite"} <= set(
        listed
    )
    assert "radii" not in listed


@EVERY
def test_every_option_that_is_listed_is_taken(name: str) -> None:
    model = MLP.model()
    common = {"batch_statistics": "batch", "context_rows": 3, "nonfinite": "skip"}
    optimizer = create(name, model, priors=PRIORS, tail=TAIL, **{**options_of(name), **common})
    assert (optimizer.batch_statistics, optimizer.context_rows, optimizer.nonfinite) == ("batch", 3, "skip")


@EVERY
def test_a_class_aware_method_says_what_it_lacks(name: str) -> None:
    model = MLP.model()
    if METHODS[name].kind.class_aware:
        with pytest.raises(
            OptionError, match=rf"{name} needs class priors: give priors=ClassPriors.from_targets\(train_targets\)"
        ):
            create(name, model)
    else:
        assert isinstance(create(name, model), METHODS[name].kind)


@EVERY
@pytest.mark.parametrize("target", [-1, 5])
def test_a_target_outside_the_classes_is_refused_by_name(name: str, target: int) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    if optimizer.class_aware:
        with pytest.raises(OptionError, match=rf"target {target} is outside the 5 classes of the optimizer \(0..4\)"):
            optimizer.passes(torch.tensor([0, target, 1]))
    else:
        optimizer.passes(torch.tensor([0, target, 1]))


@EVERY
@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_a_rho_out_of_range_is_refused_wherever_it_stands(name: str, rho: float) -> None:
    model = MLP.model()
    params = list(model.parameters())
    with pytest.raises(OptionError, match=f"rho must be finite and at least 0; got {rho}"):
        made(name, model, rho=rho)
    optimizer = made(name, model)
    optimizer.param_groups[0]["rho"] = rho
    before = contents(model)
    with pytest.raises(OptionError, match=f"rho must be finite and at least 0; got {rho}"):
        optimizer.passes(HEAD_AND_TAIL)
    assert identical(before, contents(model))
    grown = create(name, model, base=torch.optim.SGD(params[:1], lr=0.1), priors=PRIORS, tail=TAIL)
    with pytest.raises(OptionError, match=f"rho must be finite and at least 0; got {rho}"):
        grown.add_param_group({"params": params[1:], "rho": rho})
    assert len(grown.param_groups) == 1


@EVERY
def test_everything_but_the_base_and_the_classes_is_given_by_keyword(name: str) -> None:
    positional = [
        p.name for p in signature(METHODS[name].kind).parameters.values() if p.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional[0] == "base"
    assert len(positional) == (2 if METHODS[name].kind.class_aware else 1)


@EVERY
def test_gradients_after_the_step_are_finite_and_of_the_parameters_kind(name: str) -> None:
    model = MLP.model(torch.float32)
    step(made(name, model), model, MLP, 0, torch.float32)
    for p, g in zip(model.parameters(), gradients(model), strict=True):
        assert (g.dtype, g.shape) == (p.dtype, p.shape)
        assert bool(g.isfinite().all())


# Late


@EVERY
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_until_it_sets_in_a_method_is_the_one_without_a_neighbourhood(name: str, case: Case) -> None:
    """Bit for bit, and at its price: so many forwarded rows; from then on it perturbs."""
    none = {"head_rho": 0.0} if name == "sse-sam" else {}
    models = [case.model(torch.float32) for _ in range(2)]
    late = made(name, models[0], sharp_from=2)
    without = made(name, models[1], rho=0.0, **none)
    for number in range(3):
        rows = []
        for model, optimizer in zip(models, (late, without), strict=True):
            x, y = case.batch(BATCHES[0], number, torch.float32)
            torch.manual_seed(number)
            rows.append(0)
            with optimizer.passes(y) as passes:
                for p in passes:
                    rows[-1] += len(p.rows)
                    p.backward(case.loss(model(x[p.rows]), y[p.rows]))
            optimizer.step()
        is_late = number == 2 and name != "plain"
        assert identical(weights_of(models[0]), weights_of(models[1])) == (not is_late)
        costs = is_late and (case.coupled or name not in OF_ONE_PASS)
        assert (rows[0] > rows[1]) == costs


@EVERY
def test_a_method_that_set_in_late_goes_on_from_its_state(name: str) -> None:
    models = [MLP.model(torch.float32) for _ in range(2)]
    whole, resumed = (made(name, model, sharp_from=2) for model in models)
    for number in range(4):
        step(whole, models[0], MLP, number, torch.float32)
        if number == 1:
            models[1].load_state_dict(models[0].state_dict())
            resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        if number > 1:
            step(resumed, models[1], MLP, number, torch.float32)
    assert identical(everything(models[0], whole), everything(models[1], resumed))


@pytest.mark.parametrize("wrong", [-1, 0.5, "late"])
def test_steps_until_it_sets_in_are_a_whole_number(wrong: object) -> None:
    with pytest.raises(OptionError, match="sharp_from"):
        made("sam", MLP.model(), sharp_from=wrong)
