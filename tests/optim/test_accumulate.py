"""Micro-batches of one step by passes that add up, and gradients that are neither dropped nor kept without a word."""

import copy
import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, DEVICE, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import NonFiniteError, PassError
from imbsam.optim import METHODS, SharpnessAware
from optim.family import made
from optim.loops import contents, identical, imbsam, make_passes, sam, sgd, take_step

EVERY = pytest.mark.parametrize("name", METHODS)
X, Y = MLP.batch(HEAD_AND_TAIL.repeat(4))
IMAGES = BATCH_NORM.batch(HEAD_AND_TAIL.repeat(4))[0]
PARTS = list(torch.arange(len(Y), device=DEVICE).split(len(HEAD_AND_TAIL)))


def accumulated(
    optimizer: SharpnessAware, model: nn.Module, case: Case, parts: list[Tensor], images: Tensor = IMAGES
) -> None:
    x = images if case is BATCH_NORM else X
    for rows in parts:
        with optimizer.passes(Y[rows], accumulate=True) as passes:
            for p in passes:
                chosen = rows[p.rows]
                p.backward(case.loss(model(x[chosen]), Y[chosen]) / len(parts))


@pytest.mark.parametrize("method", [sam, imbsam])
def test_each_micro_batch_climbs_by_itself_and_the_gradients_add_up(method: Callable[..., SharpnessAware]) -> None:
    model = MLP.model()
    params = list(model.parameters())
    rhos = [0.3] * len(params)

    def losses_of(rows: Tensor) -> Tensor:
        return MLP.loss(model(X[rows]), Y[rows]) / 4

    expected = None
    for part in PARTS:

        def of_part(rows: Tensor, part: Tensor = part) -> Tensor:
            return losses_of(part[rows])

        if method is sam:
            grads = oracles.sam_gradient(params, of_part, len(part), rhos)
        else:
            grads = oracles.imbsam_gradient(params, of_part, TAIL[Y[part]], rhos)
        expected = grads if expected is None else oracles.added(expected, grads)
    accumulated(method(MLP, model, rho=0.3), model, MLP, PARTS)
    torch.testing.assert_close([p.grad for p in params], list(expected), atol=1e-12, rtol=0)


@EVERY
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_the_gradients_of_micro_batches_are_those_of_each_alone_added(name: str, case: Case) -> None:
    model = case.model()
    alone = []
    for number, rows in enumerate(PARTS):
        twin = copy.deepcopy(model)
        torch.manual_seed(number)
        accumulated(made(name, twin), twin, case, [rows])
        alone.append([p.grad for p in twin.parameters()])
    optimizer = made(name, model)
    for number, rows in enumerate(PARTS):
        torch.manual_seed(number)
        accumulated(optimizer, model, case, [rows])
    expected = [sum(grads) for grads in zip(*alone, strict=True)]
    torch.testing.assert_close([p.grad for p in model.parameters()], expected, atol=1e-12, rtol=0)
    optimizer.step()
    assert optimizer.steps == 1
    with pytest.raises(PassError, match="no finished passes"):
        optimizer.step()


@EVERY
def test_batch_norm_moves_once_for_each_micro_batch(name: str) -> None:
    model = BATCH_NORM.model()
    twin = copy.deepcopy(model)
    accumulated(made(name, model), model, BATCH_NORM, PARTS)
    for rows in PARTS:
        twin(IMAGES[rows])
    torch.testing.assert_close(list(model.buffers()), list(twin.buffers()), atol=1e-12, rtol=0)


@EVERY
def test_one_that_is_not_finite_refuses_the_step_and_leaves_nothing_of_it(name: str) -> None:
    model = BATCH_NORM.model()
    optimizer = made(name, model, nonfinite="raise")
    before = contents(model)
    x = IMAGES.clone()
    x[PARTS[1][0]] = torch.nan
    accumulated(optimizer, model, BATCH_NORM, PARTS, x)
    with pytest.raises(NonFiniteError):
        optimizer.step()
    assert identical(before, contents(model))
    assert not optimizer.memory
    take_step(optimizer, model, BATCH_NORM.loss, (IMAGES, Y))


def test_a_micro_batch_that_fails_leaves_those_before_it() -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer, other = imbsam(MLP, model), imbsam(MLP, twin)
    accumulated(optimizer, model, MLP, PARTS[:2])
    with optimizer.passes(Y[PARTS[2]], accumulate=True) as passes:
        for p in passes:
            rows = PARTS[2][p.rows]
            p.backward(MLP.loss(model(X[rows]), Y[rows]))
            break
    accumulated(other, twin, MLP, PARTS[:2])
    assert identical([p.grad for p in model.parameters()], [p.grad for p in twin.parameters()])
    optimizer.step()
    other.step()
    assert identical(contents(model, optimizer), contents(twin, other))


@EVERY
def test_passes_that_wait_are_not_dropped_without_a_word(name: str) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    make_passes(optimizer, model, MLP.loss, (X, Y))
    kept = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(PassError, match=r"accumulate=True.*p\.split\(size\).*zero_grad\(\)"):
        optimizer.passes(Y)
    assert identical(kept, [p.grad for p in model.parameters()])
    optimizer.step()
    optimizer.passes(Y)


@EVERY
def test_a_gradient_of_ones_own_is_refused_or_added_to(name: str) -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer, other = made(name, model), made(name, twin)
    torch.manual_seed(0)
    make_passes(other, twin, MLP.loss, (X, Y))
    (5 * next(model.parameters()).square().sum()).backward()
    with pytest.raises(PassError, match=r"not of its passes.*accumulate=True.*zero_grad\(\)"):
        take_step(optimizer, model, MLP.loss, (X, Y))
    aux = next(model.parameters()).grad.clone()
    torch.manual_seed(0)
    with optimizer.passes(Y, accumulate=True) as passes:
        for p in passes:
            p.backward(MLP.loss(model(X[p.rows]), Y[p.rows]))
    expected = [p.grad for p in twin.parameters()]
    expected[0] = expected[0] + aux
    torch.testing.assert_close([p.grad for p in model.parameters()], expected, atol=1e-12, rtol=0)


def test_a_gradient_whose_optimizer_is_gone_is_not_taken_for_ones_own() -> None:
    model = MLP.model()
    first = imbsam(MLP, model)
    make_passes(first, model, MLP.loss, (X, Y))
    del first
    gc.collect()
    take_step(imbsam(MLP, model), model, MLP.loss, (X, Y))
    second = imbsam(MLP, model)
    make_passes(second, model, MLP.loss, (X, Y))
    del second
    gc.collect()
    next(model.parameters()).square().sum().backward()
    with pytest.raises(PassError, match="not of its passes"):
        take_step(imbsam(MLP, model), model, MLP.loss, (X, Y))


def test_a_gradient_after_a_step_that_somebody_added_to_is_refused_too() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    take_step(optimizer, model, MLP.loss, (X, Y))
    take_step(optimizer, model, MLP.loss, (X, Y))
    next(model.parameters()).square().sum().backward()
    with pytest.raises(PassError, match="not of its passes"):
        take_step(optimizer, model, MLP.loss, (X, Y))


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("by", ["model", "optimizer", "base"])
def test_gradients_may_be_cleared_by_anybody_between_steps(by: str, to_none: bool) -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    for _ in range(3):
        next(model.parameters()).square().sum().backward()
        {"model": model, "optimizer": optimizer, "base": optimizer.base}[by].zero_grad(set_to_none=to_none)
        take_step(optimizer, model, MLP.loss, (X, Y))
    assert optimizer.steps == 3


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("method", [sam, imbsam])
def test_gradients_that_are_cleared_before_the_step_are_missed(
    method: Callable[..., SharpnessAware], to_none: bool
) -> None:
    model = MLP.model()
    optimizer = method(MLP, model)
    before = contents(model)
    make_passes(optimizer, model, MLP.loss, (X, Y))
    model.zero_grad(set_to_none=to_none)
    with pytest.raises(PassError, match=r"cleared before step\(\)"):
        optimizer.step()
    assert identical(before, contents(model))
    assert optimizer.steps == 0


def test_a_gradient_that_is_zero_is_a_step() -> None:
    model = MLP.model()
    optimizer = sam(MLP, model)
    with optimizer.passes(Y) as passes:
        for p in passes:
            p.backward(MLP.loss(model(X[p.rows]), Y[p.rows]) * 0)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert optimizer.steps == 1


def test_a_step_that_a_scaler_left_out_may_be_dropped() -> None:
    model = MLP.model(torch.float32)
    optimizer = imbsam(MLP, model)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**8)
    x = X.float()
    for number in range(3):
        with optimizer.passes(Y, loss_scale=scaler.get_scale()) as passes:
            for p in passes:
                losses = MLP.loss(model(x[p.rows]), Y[p.rows]) * (torch.inf if number == 1 else 1)
                p.backward(scaler.scale(losses))
        scaler.step(optimizer)
        scaler.update()
    assert optimizer.steps == 2


def test_plain_steps_of_the_base_serve_their_gradients() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model, sgd(model.parameters()))
    MLP.loss(model(X), Y).mean().backward()
    optimizer.base.step()
    take_step(optimizer, model, MLP.loss, (X, Y))
