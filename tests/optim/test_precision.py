"""float16 with a GradScaler in its ordinary order, for every method: what overflows in any pass changes nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cases import BATCH_NORM, DEVICE, HEAD_AND_TAIL, MLP, Case
from imbsam.errors import PassError
from imbsam.optim import METHODS, SharpnessAware
from optim.family import made
from optim.loops import contents, identical, rows_closure
from optim.test_contract import kept, weights_of

EVERY = pytest.mark.parametrize("name", METHODS)
SCALE = 2.0**10


def trained(model: nn.Module, optimizer: SharpnessAware) -> list[Tensor]:
    """What a step that is skipped leaves alone; running statistics move in its forward, as they do in torch's loop."""
    return weights_of(model) + contents(optimizer) + kept(optimizer)


def scaled_step(
    scaler: torch.amp.GradScaler,
    optimizer: SharpnessAware,
    model: nn.Module,
    case: Case,
    *,
    seed: int,
    overflow_in: int | None = None,
) -> int:
    """One step in the order of torch's recipe, with clipping; gives the number of its passes that have a backward."""
    x, y = case.batch(HEAD_AND_TAIL, seed, torch.float32)
    torch.manual_seed(seed)
    number = 0
    with optimizer.passes(y, loss_scale=scaler.get_scale()) as passes:
        for p in passes:
            with torch.autocast(DEVICE.type, torch.float16):
                logits = model(x[p.rows])
            losses = case.loss(logits.float(), y[p.rows])
            # Finite in float32; its gradient leaves the range of float16.
            p.backward(scaler.scale(losses * 1e20 if number == overflow_in else losses))
            number += p.needs_gradient
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    return number


@EVERY
@pytest.mark.parametrize("groups", ["one group", "several groups"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_an_overflow_in_any_pass_leaves_everything_as_it_was_and_lowers_the_scale(
    name: str, groups: str, case: Case
) -> None:
    model = case.model(torch.float32)
    optimizer = made(name, model, groups=groups)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=SCALE, growth_interval=10**6)
    # The second step of a method differs from the first: memory is there, passes are spared.
    for seed in range(2):
        passes = scaled_step(scaler, optimizer, model, case, seed=seed)
    assert scaler.get_scale() == SCALE
    before = trained(model, optimizer)
    for number in range(passes):
        scaled_step(scaler, optimizer, model, case, seed=1, overflow_in=number)
        assert identical(before, trained(model, optimizer)), f"after an overflow in pass {number + 1} of {passes}"
        assert scaler.get_scale() == SCALE / 2 ** (number + 1)
        assert optimizer.steps == 2
    scaled_step(scaler, optimizer, model, case, seed=2)
    assert optimizer.steps == 3
    assert not identical(before, trained(model, optimizer))
    assert all(bool(t.isfinite().all()) for t in contents(model, optimizer))


@EVERY
@pytest.mark.parametrize("given", ["by position", "by keyword"])
def test_a_closure_given_to_the_scaler_is_refused_and_moves_nothing(name: str, given: str) -> None:
    model = MLP.model(torch.float32)
    optimizer = made(name, model)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=SCALE)
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = MLP.loss(model(x), y).mean()
        scaler.scale(loss).backward()
        return loss

    closure()
    before = contents(model, optimizer)
    if given == "by position":
        with pytest.raises(PassError, match=r"scaler\.step\(optimizer, closure\) would leave .* scaled"):
            scaler.step(optimizer, closure)
    else:
        # torch's own error: the keyword never reaches the optimizer.
        with pytest.raises(RuntimeError, match="Closure use is not currently supported if GradScaler is enabled"):
            scaler.step(optimizer, closure=closure)
    assert identical(before, contents(model, optimizer))
    assert optimizer.steps == 0


@EVERY
def test_a_closure_over_rows_given_to_the_scaler_is_refused_too(name: str) -> None:
    model = MLP.model(torch.float32)
    optimizer = made(name, model)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=SCALE)
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    rows: Callable[[Tensor], Tensor] = rows_closure(model, MLP.loss, x, y)
    scaler.scale(rows(torch.arange(len(y))).mean()).backward()
    before = contents(model, optimizer)
    with pytest.raises(PassError, match=r"loss_scale=scaler\.get_scale"):
        scaler.step(optimizer, rows, targets=y)
    assert identical(before, contents(model, optimizer))
