"""The Universal class against its formulas."""

import math

import pytest
import torch
from torch import nn

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import DetSAM, FrobSAM, TraceSAM, UniversalSAM
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, identical, plain_step, sgd, take_step

FOLLOWED = pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)


@BASE_AND_GROUPS
@pytest.mark.parametrize(("sampler", "draw"), [("sphere", oracles.sphere_draw), ("gaussian", oracles.normal_draw)])
@FOLLOWED
def test_trace_sam_equals_the_textbook_loop(
    case: Case, sampler: str, draw: oracles.Draw, base: str, groups: str
) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.3, 0.0)
    optimizer = TraceSAM(BASES[base][0](given), samples=3, strength=0.8, sampler=sampler, model=model)
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: oracles.universal_gradient(
            params,
            losses_of,
            len(y),
            rhos,
            draw,
            samples=3,
            strength=0.8,
            psi=lambda t: t,
            psi_prime=lambda t: 1.0,
            phi_prime=lambda s: 1.0,
        ),
        base=base,
    )


@BASE_AND_GROUPS
@pytest.mark.parametrize("samples", [1, 3])
@FOLLOWED
def test_det_sam_equals_the_textbook_loop(case: Case, samples: int, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.7, 0.0)
    optimizer = DetSAM(BASES[base][0](given), samples=samples, strength=0.5, half_width=0.2, model=model)
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: oracles.universal_gradient(
            params,
            losses_of,
            len(y),
            rhos,
            oracles.cube_draw(0.2),
            samples=samples,
            strength=0.5,
            psi=lambda t: math.exp(-t / 2),
            psi_prime=lambda t: -math.exp(-t / 2) / 2,
            phi_prime=lambda s: -2 / s**3,
        ),
        base=base,
    )


@BASE_AND_GROUPS
@pytest.mark.parametrize("samples", [2, 4])
@FOLLOWED
def test_frob_sam_equals_the_textbook_loop(case: Case, samples: int, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.3, 0.0)
    optimizer = FrobSAM(BASES[base][0](given), samples=samples, strength=0.05, model=model)
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: oracles.frob_gradient(
            params, losses_of, len(y), rhos, samples=samples, strength=0.05
        ),
        base=base,
    )


def test_functions_and_a_sampler_of_ones_own_equal_the_textbook_loop() -> None:
    model = MLP.model()
    optimizer = UniversalSAM(
        sgd(model.parameters()),
        torch.sin,
        torch.cos,
        lambda s: 3 * s**2,
        rho=0.4,
        samples=2,
        strength=0.6,
        sampler=lambda params: [torch.rand(p.shape, dtype=p.dtype) for p in params],
        model=model,
    )
    assert_follows(
        optimizer,
        model,
        MLP,
        lambda params, losses_of, y: oracles.universal_gradient(
            params,
            losses_of,
            len(y),
            [0.4] * 4,
            lambda drawn_for: [torch.rand(p.shape, dtype=p.dtype) for p in drawn_for],
            samples=2,
            strength=0.6,
            psi=math.sin,
            psi_prime=math.cos,
            phi_prime=lambda s: 3 * s**2,
        ),
    )


def test_with_one_sample_the_weight_of_det_sam_is_the_exponential_of_the_rise() -> None:
    optimizer = DetSAM(sgd(MLP.model().parameters()), rho=0.5, strength=2.0)
    weights = optimizer.weights(torch.tensor([1.3], dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    assert float(weights) == pytest.approx(2.0 * math.exp(0.3 / 0.25), rel=1e-12)


def test_the_weights_of_frob_sam_add_up_to_nothing_and_give_the_unbiased_covariance() -> None:
    torch.manual_seed(0)
    losses, grads = torch.rand(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    optimizer = FrobSAM(sgd(MLP.model().parameters()), rho=0.1, samples=5, strength=0.1**2)
    weights = optimizer.weights(losses, torch.tensor(7.0, dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(0.0, abs=1e-15)
    assert float(weights @ grads) == pytest.approx(float(torch.cov(torch.stack([losses, grads]))[0, 1]), rel=1e-12)


@pytest.mark.slow
def test_on_a_quadratic_the_trace_gradient_vanishes_on_average() -> None:
    """The Hessian is constant, so the expected change of the gradient over the sphere is none."""
    w = nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    optimizer = TraceSAM(torch.optim.SGD([w], lr=0.0), rho=0.1, samples=4000)
    optimizer.step(lambda rows: (w**2 * torch.tensor([1.0, 3.0])).sum().expand(len(rows)), targets=torch.tensor([0]))
    torch.testing.assert_close(w.grad, torch.tensor([2.0, -6.0], dtype=torch.float64), atol=0.02, rtol=0)


def exploding(factor: float) -> tuple[nn.Parameter, DetSAM, object]:
    """A loss that rises by ``factor`` in every direction, where the exponential of the rise overflows."""
    w = nn.Parameter(torch.ones(2))
    optimizer = DetSAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), rho=1.0, half_width=0.5)
    return w, optimizer, lambda rows: (factor * (w - 1).abs().sum() + w.sum()).expand(len(rows))


def test_an_exponent_that_overflows_is_skipped_and_counted() -> None:
    w, optimizer, closure = exploding(1e4)
    for skipped in (1, 2):
        loss = optimizer.step(closure, targets=HEAD_AND_TAIL)
        assert optimizer.skipped == skipped
        assert optimizer.steps == 0
        assert float(loss) == 2.0
        assert torch.equal(w.detach(), torch.ones(2))
        assert not optimizer.state
    assert optimizer.state_dict()["sharpness"]["skipped"] == 2


def test_an_exponent_that_overflows_raises_where_asked_to() -> None:
    w, optimizer, closure = exploding(1e4)
    optimizer.nonfinite = "raise"
    with pytest.raises(NonFiniteError, match="NaN or infinite; weights and statistics are unchanged"):
        optimizer.step(closure, targets=HEAD_AND_TAIL)
    assert optimizer.skipped == 0
    assert torch.equal(w.detach(), torch.ones(2))


def test_a_small_rise_is_no_overflow() -> None:
    w, optimizer, closure = exploding(1.0)
    optimizer.step(closure, targets=HEAD_AND_TAIL)
    assert (optimizer.steps, optimizer.skipped) == (1, 0)
    assert not torch.equal(w.detach(), torch.ones(2))


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("method", [TraceSAM, FrobSAM, DetSAM])
def test_the_ordinary_closure_equals_the_passes(method: type, case: Case) -> None:
    one, other = case.model(), case.model()
    by_loss, by_rows = (
        method(sgd(one.parameters()), rho=0.3, model=one),
        method(sgd(other.parameters()), rho=0.3, model=other),
    )
    for step, (x, y) in enumerate(case.batches()):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            by_loss.zero_grad()
            loss = case.loss(one(x), y).mean()
            loss.backward()
            return loss

        torch.manual_seed(step)
        by_loss.step(closure)
        torch.manual_seed(step)
        take_step(by_rows, other, case.loss, (x, y))
        torch.testing.assert_close(contents(one), contents(other), atol=1e-12, rtol=0)


def test_strength_zero_is_the_base_optimizer_to_rounding() -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer, base = TraceSAM(sgd(model.parameters()), strength=0.0), sgd(twin.parameters())
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        plain_step(base, twin, MLP.loss, batch)
    torch.testing.assert_close(contents(model), contents(twin), atol=1e-14, rtol=0)


@pytest.mark.parametrize("samples", [1, 0])
def test_frob_sam_needs_two_samples(samples: int) -> None:
    with pytest.raises(OptionError, match=f"samples must be a whole number, at least 2; got {samples}"):
        FrobSAM(sgd(MLP.model().parameters()), samples=samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be a whole number, at least 1; got 0"),
        ({"strength": float("nan")}, "strength must be finite; got nan"),
        ({"sampler": "ball"}, "sampler must be 'sphere', 'gaussian', 'cube' or a function; got 'ball'"),
        ({"rho": -1.0}, "rho must be finite and at least 0; got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TraceSAM(sgd(MLP.model().parameters()), **options)


def test_groups_of_different_rho_are_refused_before_anything_moves() -> None:
    model = MLP.model()
    given, _ = grouped(model, "several groups", 0.3, 0.1)
    optimizer = TraceSAM(sgd(given))
    before = contents(model)
    with pytest.raises(OptionError, match=r"TraceSAM divides by one rho, but the groups have 0.1 and 0.3"):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(before, contents(model))
