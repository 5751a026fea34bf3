"""GSAM against its formula."""

import pytest
import torch
from torch import nn

import oracles
from cases import BATCH_NORM, EMBEDDING, MLP, ROUTED, Case
from imbsam.errors import OptionError
from imbsam.optim import GSAM, SAM, Adaptive
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, gradients, identical, make_passes, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize("adaptive", [False, True], ids=["along the gradient", "adaptive, as in the official example"])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_gsam_equals_the_textbook_loop(case: Case, adaptive: bool, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    ascent = Adaptive(0.0, scope="all") if adaptive else None
    optimizer = GSAM(BASES[base][0](given), alpha=0.6, ascent=ascent, model=model, batch_statistics="batch")
    direction = oracles.adaptive_direction(0.0, [True] * len(rhos)) if adaptive else oracles.plain_direction()

    def gradient(params: object, losses_of: object, y: torch.Tensor) -> oracles.Grads:
        rows = torch.arange(len(y))
        plain = oracles.gradient(params, losses_of(rows).mean())
        with oracles.displaced(params, direction(0, params, plain, rhos)):
            return oracles.gsam_gradient(plain, oracles.gradient(params, losses_of(rows).mean()), 0.6)

    assert_follows(optimizer, model, case, gradient, base=base)


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_alpha_zero_is_sam(case: Case) -> None:
    model, twin = case.model(), case.model()
    gsam, sam = GSAM(sgd(model.parameters()), alpha=0.0, model=model), SAM(sgd(twin.parameters()), model=twin)
    for batch in case.batches():
        take_step(gsam, model, case.loss, batch)
        take_step(sam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_what_is_taken_away_is_orthogonal_to_the_perturbed_gradient() -> None:
    batch = MLP.batches()[0]
    found = {}
    for alpha in (0.0, 0.7):
        model = MLP.model()
        make_passes(GSAM(sgd(model.parameters()), rho=0.5, alpha=alpha), model, MLP.loss, batch)
        found[alpha] = torch.cat([g.flatten() for g in gradients(model)])
    perturbed, taken = found[0.0], found[0.0] - found[0.7]
    assert float(taken.norm()) > 1e-3
    assert float(perturbed @ taken) == pytest.approx(0.0, abs=1e-15)


def test_a_parameter_reached_at_the_weights_alone_has_a_perturbed_gradient_of_zero() -> None:
    """Routing and stochastic depth leave a layer out of one pass and not of the other."""
    p, q = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([1.0, 2.0], [3.0]))
    optimizer = GSAM(torch.optim.SGD([p, q], lr=0.0), rho=0.5, alpha=0.4)
    calls: list[int] = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        value = (p**2).sum() + (5 * q.sum() if len(calls) == 1 else 0)
        return value.expand(len(rows))

    optimizer.step(closure, targets=torch.tensor([0]))
    plain = [2 * p.detach(), torch.tensor([5.0], dtype=torch.float64)]
    shifted = p.detach() * (1 + 0.5 * 2 / oracles.norm(list(plain)))
    expected = oracles.gsam_gradient(plain, [2 * shifted, torch.zeros(1, dtype=torch.float64)], 0.4)
    torch.testing.assert_close([p.grad, q.grad], expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_not_finite_is_refused(alpha: float) -> None:
    with pytest.raises(OptionError, match="alpha must be finite"):
        GSAM(sgd(MLP.model().parameters()), alpha=alpha)
