"""SAMPa against its recursion, in a loop that shares no code with it."""

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, ROUTED, Case
from imbsam.errors import OptionError
from imbsam.optim import SAMPa
from optim.family import BASES, assert_follows, grouped
from optim.loops import contents, identical, make_passes, sgd, take_step


class Recursion:
    """x~ = x + rho g(y) / |g(y)|, y+ = x - eta g(y), (1 - lambda) g(x~) + lambda g(y+); at first g(x) alone."""

    def __init__(self, rhos: list[float], rates: list[float], share: float) -> None:
        self.rhos, self.rates, self.share = rhos, rates, share
        self.at_y: oracles.Grads | None = None

    def __call__(self, params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        def gradient() -> oracles.Grads:
            return oracles.gradient(params, losses_of(torch.arange(len(y))).mean())

        if self.at_y is None:
            self.at_y = gradient()
            return self.at_y
        ahead = oracles.perturbation(self.at_y, self.rhos)
        predicted = [None if g is None else -lr * g for g, lr in zip(self.at_y, self.rates, strict=True)]
        with oracles.displaced(params, ahead):
            perturbed = gradient()
        with oracles.displaced(params, predicted):
            now = gradient()
        # A part of the model that this batch did not reach keeps what it had.
        self.at_y = [old if new is None else new for old, new in zip(self.at_y, now, strict=True)]
        return oracles.added(
            [None if g is None else (1 - self.share) * g for g in perturbed],
            [None if g is None else self.share * g for g in now],
        )


@pytest.mark.parametrize(("base", "groups"), [("sgd", "several groups"), ("adamw", "one group")])
@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM], ids=str)
def test_it_equals_its_recursion(case: Case, share: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = SAMPa(BASES[base][0](given), share=share, model=model)
    rates = [float(optimizer.param_groups[0]["lr"])] * len(rhos)
    recursion = Recursion(rhos, rates, share)
    assert_follows(optimizer, model, case, recursion, base=base, at_the_weights=case.coupled)


def test_a_learning_rate_that_moves_is_that_of_the_prediction() -> None:
    model = MLP.model()
    optimizer = SAMPa(sgd(model.parameters()), model=model)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    optimizer.param_groups[0]["lr"] = 0.025
    kept = [m.clone() for m in optimizer.memory["ascent 0"].values()]
    before = contents(model)
    x, y = MLP.batch(HEAD_AND_TAIL, 1)
    moved = []
    with optimizer.passes(y) as passes:
        for p in passes:
            moved.append([now - was for now, was in zip(contents(model), before, strict=True)])
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    length = sum(float((m**2).sum()) for m in kept) ** 0.5
    torch.testing.assert_close(moved[0], [0.1 * m / length for m in kept], atol=1e-12, rtol=0)
    torch.testing.assert_close(moved[1], [-0.025 * m for m in kept], atol=1e-12, rtol=0)


def test_the_loss_scale_does_not_reach_what_it_keeps() -> None:
    kept = []
    for scale in (1.0, 1024.0):
        model = MLP.model()
        optimizer = SAMPa(sgd(model.parameters()), model=model)
        x, y = MLP.batch(HEAD_AND_TAIL)
        for _ in range(3):
            with optimizer.passes(y, loss_scale=scale) as passes:
                for p in passes:
                    p.backward(scale * MLP.loss(model(x[p.rows]), y[p.rows]))
            for p in model.parameters():
                p.grad /= scale
            optimizer.step()
        kept.append([m.clone() for m in optimizer.memory["ascent 0"].values()] + contents(model))
    torch.testing.assert_close(*kept, atol=1e-12, rtol=0)


def test_clipping_does_not_reach_what_it_keeps() -> None:
    model = MLP.model()
    optimizer = SAMPa(sgd(model.parameters()), model=model)
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    gradient = [p.grad.clone() for p in model.parameters()]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    assert identical(gradient, list(optimizer.memory["ascent 0"].values()))


def test_where_a_loss_is_maximized_the_prediction_ascends() -> None:
    """The same run as of the loss turned round."""
    model, twin = MLP.model(), MLP.model()
    one = SAMPa(torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), rho=0.3)
    other = SAMPa(torch.optim.SGD(twin.parameters(), lr=0.1), rho=0.3)
    for x, y in MLP.batches():
        one.step(lambda rows, x=x, y=y: -MLP.loss(model(x[rows]), y[rows]), targets=y)
        other.step(lambda rows, x=x, y=y: MLP.loss(twin(x[rows]), y[rows]), targets=y)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-13, rtol=0)


def test_set_in_late_it_begins_with_the_gradient_of_the_step_before() -> None:
    model = MLP.model()
    optimizer = SAMPa(sgd(model.parameters()), sharp_from=3, model=model)
    counts = []
    for batch in MLP.batches():
        counts.append(len(optimizer.passes(batch[1])))
        optimizer.zero_grad()
        take_step(optimizer, model, MLP.loss, batch)
    assert counts == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match="share must be above 0 and below 1"):
        SAMPa(sgd(MLP.model().parameters()), share=share)
