"""SAM against its formula."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, BATCHES, CASES, MLP, ROUTED, TAIL, Case
from imbsam.optim import SAM, Gradient, ImbSAM
from optim.loops import (
    adamw,
    assert_gradients_close,
    contents,
    gradients,
    identical,
    imbsam,
    plain_step,
    sam,
    sgd,
    take_step,
)

BASES = {
    "sgd": (sgd, lambda: oracles.SGD(0.1, 0.9, 0.01)),
    "adamw": (adamw, lambda: oracles.AdamW(0.01, (0.9, 0.999), 1e-6, 0.1)),
}


def groups(model: nn.Module, split: bool) -> tuple[list[dict[str, object]], list[float]]:
    """Parameter groups, and the rho of each parameter: one group of 0.1, or two of 0.3 and 0."""
    params = list(model.parameters())
    if not split:
        return [{"params": params, "rho": 0.1}], [0.1] * len(params)
    rhos = [0.3 if k % 2 else 0.0 for k in range(len(params))]
    return [
        {"params": [p for p, r in zip(params, rhos, strict=True) if r == rho], "rho": rho} for rho in (0.3, 0.0)
    ], rhos


@pytest.mark.parametrize("split", [False, True], ids=["one group", "two groups"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sam_equals_the_textbook_loop(case: Case, base: str, split: bool) -> None:
    model, twin = case.model(), case.model()
    make, written_out = BASES[base][0], BASES[base][1]()
    given, rhos = groups(model, split)
    optimizer = SAM(make(given), model=model)
    params = list(twin.parameters())
    for x, y in case.batches():
        loss = case.loss(twin(x), y).mean()
        grads = oracles.sam_gradient(params, lambda rows, x=x, y=y: case.loss(twin(x[rows]), y[rows]), len(y), rhos)
        written_out.step(params, grads)
        returned = take_step(optimizer, model, case.loss, (x, y))
        torch.testing.assert_close(returned, loss.detach(), atol=1e-12, rtol=0)
        assert_gradients_close(gradients(model), grads)
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


@pytest.mark.parametrize("damping", [0.1, 10.0])
def test_damping_shortens_the_perturbation_as_written(damping: float) -> None:
    model = MLP.model()
    x, y = MLP.batch(BATCHES[0])
    params = list(model.parameters())
    expected = oracles.sam_gradient(
        params, lambda rows: MLP.loss(model(x[rows]), y[rows]), len(y), [0.5] * len(params), damping
    )
    take_step(sam(MLP, model, sgd(params, lr=0.0), rho=0.5, ascent=Gradient(damping=damping)), model, MLP.loss, (x, y))
    assert_gradients_close(gradients(model), expected)


@pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM], ids=str)
@pytest.mark.parametrize("clear", [None, False, True], ids=["not cleared", "set to zero", "set to none"])
def test_the_ordinary_closure_equals_the_passes(case: Case, clear: bool | None) -> None:
    one, other = case.model(torch.float32), case.model(torch.float32)
    by_rows, by_loss = sam(case, one), sam(case, other)
    for x, y in case.batches(torch.float32):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            if clear is not None:
                by_loss.zero_grad(set_to_none=clear)
            loss = case.loss(other(x), y).mean()
            loss.backward()
            return loss

        torch.testing.assert_close(by_loss.step(closure), take_step(by_rows, one, case.loss, (x, y)))
        torch.testing.assert_close(contents(other), contents(one))
    assert not by_loss.step(closure).requires_grad


def test_the_ordinary_closure_at_rho_zero_is_the_base_optimizer() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, base = sam(MLP, model, rho=0.0), sgd(twin.parameters())
    calls = []
    for x, y in MLP.batches(torch.float32):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            calls.append(1)
            optimizer.zero_grad()
            loss = MLP.loss(model(x), y).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        plain_step(base, twin, MLP.loss, (x, y))
    assert identical(contents(model, optimizer), contents(twin, base))
    assert len(calls) == len(BATCHES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_imbsam_with_every_class_in_the_tail_is_sam(case: Case) -> None:
    one, other = case.model(), case.model()
    everything = ImbSAM(sgd(one.parameters()), torch.ones_like(TAIL), rho=0.1, model=one)
    plain = sam(case, other, rho=0.1)
    for batch in case.batches():
        take_step(everything, one, case.loss, batch)
        take_step(plain, other, case.loss, batch)
    assert identical(contents(one), contents(other))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_imbsam_on_batches_of_tail_rows_alone_is_sam(case: Case) -> None:
    one, other = case.model(), case.model()
    halved, plain = imbsam(case, one, rho=0.1), sam(case, other, rho=0.1)
    for seed in range(3):
        batch = case.batch(BATCHES[3], seed)
        take_step(halved, one, case.loss, batch)
        take_step(plain, other, case.loss, batch)
    assert identical(contents(one), contents(other))
