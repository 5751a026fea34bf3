"""ESAM against its formula."""

import pytest
import torch
from torch import nn

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, Case
from imbsam.errors import OptionError
from imbsam.optim import ESAM, SAM, Slope, Stochastic
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, group_indices, grouped
from optim.loops import contents, gradients, identical, make_passes, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize(("beta", "gamma"), [(0.6, 0.5), (1.0, 0.3), (0.5, 1.0), (0.2, 0.05)])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_esam_equals_the_textbook_loop(case: Case, beta: float, gamma: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = ESAM(BASES[base][0](given), beta=beta, gamma=gamma, model=model, batch_statistics="batch")
    direction = oracles.stochastic_direction(beta, group_indices(model, groups))
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: oracles.esam_gradient(
            params, losses_of, len(y), rhos, direction, gamma, coupled=case.coupled
        ),
        base=base,
    )


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_beta_and_gamma_one_is_sam(case: Case) -> None:
    model, twin = case.model(), case.model()
    esam = ESAM(sgd(model.parameters()), beta=1.0, gamma=1.0, model=model)
    sam = SAM(sgd(twin.parameters()), model=twin)
    for batch in case.batches():
        take_step(esam, model, case.loss, batch)
        take_step(sam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_rows_are_chosen_by_rises_far_smaller_than_the_losses() -> None:
    found = []
    for constant in (0.0, 1e8):
        model = MLP.model()
        x, y = MLP.batch(HEAD_AND_TAIL.repeat(2))
        with ESAM(sgd(model.parameters()), rho=0.5, beta=1.0, gamma=0.3).passes(y) as passes:
            for p in passes:
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]) + constant)
        found.append(gradients(model))
    torch.testing.assert_close(found[1], found[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("gamma", [0.3, 0.7])
def test_micro_batches_choose_the_rows_that_the_whole_batch_does(gamma: float, size: int) -> None:
    whole, parts = MLP.model(), MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL.repeat(2))
    torch.manual_seed(5)
    expected = make_passes(ESAM(sgd(whole.parameters()), rho=0.5, gamma=gamma), whole, MLP.loss, (x, y))
    torch.manual_seed(5)
    with ESAM(sgd(parts.parameters()), rho=0.5, gamma=gamma).passes(y) as passes:
        for p in passes:
            for part in p.split(size):
                part.backward(MLP.loss(parts(x[part.rows]), y[part.rows]))
    torch.testing.assert_close(passes.loss, expected.loss, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients(parts), gradients(whole), atol=1e-12, rtol=0)


def test_the_pass_that_looks_at_losses_needs_no_gradient() -> None:
    model = MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    optimizer = ESAM(sgd(model.parameters()), gamma=0.5)
    kinds = []
    with optimizer.passes(y) as passes:
        for p in passes:
            kinds.append((len(p.rows), p.needs_gradient))
            with torch.set_grad_enabled(p.needs_gradient):
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    assert kinds == [(7, True), (7, False), (3, True)]
    optimizer.step()


def test_a_looking_pass_may_have_a_graph_and_leaves_no_gradient() -> None:
    one, other = MLP.model(), MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    for model, frugal in ((one, True), (other, False)):
        torch.manual_seed(0)
        optimizer = ESAM(sgd(model.parameters()))
        with optimizer.passes(y) as passes:
            for p in passes:
                with torch.set_grad_enabled(p.needs_gradient or not frugal):
                    p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
        optimizer.step()
    assert identical(contents(one), contents(other))


def test_tensors_are_chosen_with_probability_beta_and_the_perturbation_is_rho_over_beta_long() -> None:
    chosen, lengths = [], set()
    for _ in range(2000):
        params = [torch.zeros(2, dtype=torch.float64) for _ in range(3)]
        grads = [torch.tensor([3.0, 4.0], dtype=torch.float64) for _ in params]
        Stochastic(0.4).climb([Slope(0.2, params, grads, [None] * 3)], {})
        chosen += [bool(p.any()) for p in params]
        lengths.add(round(float(torch.cat(params).norm()), 12))
    assert sum(chosen) / len(chosen) == pytest.approx(0.4, abs=0.03)
    assert lengths == {0.0, 0.5}


def test_a_draw_that_chooses_nothing_is_the_step_of_the_plain_gradient() -> None:
    model, twin = MLP.model(), MLP.model()
    batch = MLP.batch(HEAD_AND_TAIL)
    take_step(SAM(sgd(model.parameters()), ascent=Stochastic(1e-12)), model, MLP.loss, batch)
    take_step(SAM(sgd(twin.parameters()), rho=0.0), twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def test_rises_far_below_the_losses_themselves_choose_the_rows() -> None:
    """In float32 the losses before and after would be the same number."""
    w = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    slopes = torch.tensor([1.0, 4.0, 2.0, 3.0], dtype=torch.float64)
    optimizer = ESAM(torch.optim.SGD([w], lr=0.0), rho=1e-6, beta=1.0, gamma=0.5)
    optimizer.step(lambda rows: 1e3 + slopes[rows] * w[rows], targets=torch.zeros(4, dtype=torch.long))
    assert w.grad.tolist() == [0.0, 2.0, 0.0, 1.5]


def test_frozen_parameters_stay_frozen() -> None:
    """The published code thaws them."""
    model = MLP.model()
    model[0].requires_grad_(False)
    before = contents(model[0])
    optimizer = ESAM(sgd(model.parameters()), beta=0.5)
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert identical(before, contents(model[0]))


def test_the_ordinary_closure_is_refused_where_rows_are_selected_and_taken_where_not() -> None:
    p = nn.Parameter(torch.ones(2))

    def closure() -> torch.Tensor:
        loss = (p**2).sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match=r"ESAM needs the loss of each row: step\(lambda rows: .*targets=y\)"):
        ESAM(torch.optim.SGD([p], lr=0.1), gamma=0.5).step(closure)
    assert torch.equal(p.detach(), torch.ones(2))
    ESAM(torch.optim.SGD([p], lr=0.1), gamma=1.0).step(closure)
    assert not torch.equal(p.detach(), torch.ones(2))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["beta", "gamma"])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{name} must be above 0 and at most 1; got {value}"):
        ESAM(sgd(MLP.model().parameters()), **{name: value})


def test_a_beta_of_one_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    Stochastic(1.0).climb([Slope(0.1, [torch.zeros(2)], [torch.ones(2)], [None])], {})
    assert torch.equal(torch.random.get_rng_state(), before)
