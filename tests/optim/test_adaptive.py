"""ASAM and its ascent against the formula."""

import pytest
import torch
from torch import nn

import oracles
from cases import BATCH_NORM, BATCHES, EMBEDDING, MLP, ROUTED, Case
from imbsam.errors import OptionError
from imbsam.optim import ASAM, SAM, Adaptive
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, gradients, identical, sgd, take_step

FOLLOWED = (MLP, EMBEDDING, ROUTED, BATCH_NORM)


def adapted(model: nn.Module, scope: str) -> list[bool]:
    return [scope == "all" or "weight" in name for name, _ in model.named_parameters()]


@BASE_AND_GROUPS
@pytest.mark.parametrize("scope", ["weights", "all"])
@pytest.mark.parametrize("case", FOLLOWED, ids=str)
def test_asam_equals_the_textbook_loop(case: Case, scope: str, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.5, 0.2)
    optimizer = ASAM(BASES[base][0](given), eta=0.02, scope=scope, model=model, batch_statistics="batch")
    direction = oracles.adaptive_direction(0.02, adapted(model, scope))

    def gradient(params: object, losses_of: object, y: torch.Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        return oracles.family_gradient(
            params, losses_of, [oracles.Addend(mean, mean, rhos)], direction, coupled=case.coupled
        )

    assert_follows(optimizer, model, case, gradient, base=base)


def test_without_a_name_that_says_weight_it_is_sam() -> None:
    class Nameless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(5, 6, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix.T

    case = Case("nameless", Nameless)
    model, twin = case.model(), case.model()
    one = ASAM(sgd(model.parameters()), rho=0.3, model=model)
    other = SAM(sgd(twin.parameters()), rho=0.3)
    for batch in case.batches():
        take_step(one, model, case.loss, batch)
        take_step(other, twin, case.loss, batch)
    assert identical(contents(model), contents(twin))


def test_a_large_eta_on_every_parameter_is_sam_in_a_scaled_neighbourhood() -> None:
    """T tends to eta, so that e = rho T^2 g / |T g| tends to rho eta g / |g|."""
    model, twin = MLP.model(), MLP.model()
    eta = 1e9
    one = ASAM(sgd(model.parameters()), rho=0.3 / eta, eta=eta, scope="all")
    other = SAM(sgd(twin.parameters()), rho=0.3)
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    torch.testing.assert_close(contents(model), contents(twin), atol=1e-8, rtol=0)


def test_the_neighbourhood_does_not_change_when_a_layer_is_scaled_and_the_next_one_scaled_back() -> None:
    """Kwon et al. 2021, the reason for the method: the perturbed loss is the same, SAM's is not."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 5, bias=False))

    case = Case("relu", build)
    x, y = case.batch(BATCHES[0])

    def perturbed_loss(method: type, factor: float) -> float:
        model = case.model()
        with torch.no_grad():
            model[0].weight.mul_(factor)
            model[2].weight.div_(factor)
        optimizer = method(sgd(model.parameters(), lr=0.0), rho=0.5, model=model, **extra[method])
        seen = []

        def closure(rows: torch.Tensor) -> torch.Tensor:
            losses = case.loss(model(x[rows]), y[rows])
            seen.append(float(losses.detach().mean()))
            return losses

        optimizer.step(closure, targets=y)
        return seen[1]

    extra: dict[type, dict[str, float]] = {ASAM: {"eta": 0.0}, SAM: {}}
    assert perturbed_loss(ASAM, 7.0) == pytest.approx(perturbed_loss(ASAM, 1.0), abs=1e-12)
    assert perturbed_loss(SAM, 7.0) != pytest.approx(perturbed_loss(SAM, 1.0), abs=1e-3)


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_damping_stands_in_the_denominator(damping: float) -> None:
    model = MLP.model()
    optimizer = SAM(sgd(model.parameters()), rho=0.4, ascent=Adaptive(0.1, scope="all", damping=damping))
    direction = oracles.adaptive_direction(0.1, [True] * 4, damping)

    def gradient(params: object, losses_of: object, y: torch.Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        return oracles.family_gradient(
            params, losses_of, [oracles.Addend(mean, mean, [0.4] * 4)], direction, coupled=False
        )

    assert_follows(optimizer, model, MLP, gradient)


def test_names_come_from_named_parameters_where_the_model_is_not_given() -> None:
    model, twin = MLP.model(), MLP.model()
    named = ASAM(torch.optim.SGD(model.named_parameters(), lr=0.1))
    told = ASAM(torch.optim.SGD(twin.parameters(), lr=0.1), model=twin)
    for batch in MLP.batches():
        take_step(named, model, MLP.loss, batch)
        take_step(told, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def test_without_names_it_says_how_to_give_them_and_moves_nothing() -> None:
    model = MLP.model()
    optimizer = ASAM(sgd(model.parameters()))
    before = contents(model)
    with pytest.raises(OptionError, match=r"needs the parameters' names: give the optimizer the model.*scope='all'"):
        take_step(optimizer, model, MLP.loss, MLP.batch(BATCHES[0]))
    assert identical(before, contents(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": -0.1}, "eta must be finite and at least 0; got -0.1"),
        ({"eta": float("nan")}, "eta must be finite and at least 0; got nan"),
        ({"scope": "weight"}, "scope must be 'weights' or 'all'; got 'weight'"),
        ({"damping": -1.0}, "damping must be finite and at least 0; got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Adaptive(**options)


def test_a_zero_gradient_gives_no_perturbation() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1), ascent=Adaptive(scope="all"))
    optimizer.step(lambda rows: (0 * p).sum().expand(len(rows)), targets=BATCHES[0])
    assert torch.equal(p.detach(), torch.ones(3))
    assert all(bool(g.isfinite().all()) for g in gradients(nn.ParameterList([p])))
