"""LookSAM against its formula, and that it skips the second pass."""

import copy

import pytest
import torch

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, NO_TAIL, ROUTED, TIED, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import SAM, LookSAM
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import Forwards, contents, identical, plain_step, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize("per_tensor", [False, True], ids=["global norms", "norms per tensor"])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, TIED, BATCH_NORM], ids=str)
def test_looksam_equals_the_textbook_loop(case: Case, per_tensor: bool, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.3, 0.1)
    optimizer = LookSAM(
        BASES[base][0](given), interval=3, alpha=0.7, per_tensor=per_tensor, model=model, batch_statistics="batch"
    )
    loop = oracles.LookSAM(3, 0.7, per_tensor=per_tensor)
    batches = case.batches() + case.batches()[:3]
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: loop.gradient(params, losses_of, len(y), rhos),
        base=base,
        batches=batches,
    )


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_an_interval_of_one_is_sam(case: Case) -> None:
    model, twin = case.model(), case.model()
    look, sam = (
        LookSAM(sgd(model.parameters()), interval=1, rho=0.2, model=model),
        SAM(sgd(twin.parameters()), rho=0.2, model=twin),
    )
    for batch in case.batches():
        take_step(look, model, case.loss, batch)
        take_step(sam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_the_steps_between_make_one_forward() -> None:
    model = MLP.model()
    optimizer = LookSAM(sgd(model.parameters()), interval=3)
    forwards = Forwards(model)
    for seed in range(7):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed))
    assert len(forwards.rows) == 2 + 1 + 1 + 2 + 1 + 1 + 2


def test_the_ordinary_closure_is_called_once_in_the_steps_between() -> None:
    model = MLP.model()
    optimizer = LookSAM(sgd(model.parameters()), interval=3)
    calls = []
    x, y = MLP.batch(HEAD_AND_TAIL)

    def closure() -> torch.Tensor:
        calls.append(optimizer.steps)
        optimizer.zero_grad()
        loss = MLP.loss(model(x), y).mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert calls == [0, 0, 1, 2, 3, 3, 4]


def test_when_rho_reaches_zero_nothing_that_was_kept_is_added() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, base = LookSAM(sgd(model.parameters()), interval=4), sgd(twin.parameters())
    first, *rest = MLP.batches(torch.float32)
    take_step(optimizer, model, MLP.loss, first)
    twin.load_state_dict(model.state_dict())
    # torch loads tensors of the right dtype without a copy.
    base.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.param_groups[0]["rho"] = 0.0
    for batch in rest:
        take_step(optimizer, model, MLP.loss, batch)
        plain_step(base, twin, MLP.loss, batch)
        assert identical(contents(model), contents(twin))


def test_a_refused_sam_step_is_made_at_the_next_batch() -> None:
    model = MLP.model()
    optimizer = LookSAM(sgd(model.parameters()), interval=3)
    forwards = Forwards(model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    with pytest.raises(NonFiniteError):
        take_step(optimizer, model, MLP.loss, (x * torch.nan, y))
    assert not optimizer.memory
    forwards.rows.clear()
    take_step(optimizer, model, MLP.loss, (x, y))
    assert len(forwards.rows) == 2
    assert optimizer.memory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval must be a whole number, at least 1; got 0"),
        ({"alpha": float("nan")}, "alpha must be finite"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LookSAM(sgd(MLP.model().parameters()), **options)


def test_it_goes_on_where_a_parameter_is_first_reached_between_its_second_passes() -> None:
    model = ROUTED.model()
    optimizer = LookSAM(sgd(model.parameters()), interval=3)
    for targets in (NO_TAIL, HEAD_AND_TAIL, HEAD_AND_TAIL, HEAD_AND_TAIL):
        take_step(optimizer, model, ROUTED.loss, ROUTED.batch(targets))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert not torch.equal(model.tail_expert.weight, ROUTED.model().tail_expert.weight)
