"""Friendly-SAM and its ascent against the published code's rule."""

import copy

import pytest
import torch

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, TAIL, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import CCSAM, SAM, Friendly, FriendlySAM, ImbSAM
from optim.family import BASE_AND_GROUPS, BASES, PRIORS, assert_follows, grouped
from optim.loops import contents, identical, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.9), (0.7, 0.6), (-0.5, 0.0)])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_friendly_sam_equals_the_textbook_loop(case: Case, sigma: float, decay: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.3, 0.1)
    optimizer = FriendlySAM(BASES[base][0](given), sigma=sigma, decay=decay, model=model, batch_statistics="batch")
    direction = oracles.FriendlyDirection(sigma, decay)

    def gradient(params: object, losses_of: object, y: torch.Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        return oracles.family_gradient(
            params, losses_of, [oracles.Addend(mean, mean, rhos)], direction, coupled=case.coupled
        )

    assert_follows(optimizer, model, case, gradient, base=base)


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_sigma_zero_is_sam(case: Case) -> None:
    model, twin = case.model(), case.model()
    friendly, sam = (
        FriendlySAM(sgd(model.parameters()), sigma=0.0, model=model),
        SAM(sgd(twin.parameters()), model=twin),
    )
    for batch in case.batches():
        take_step(friendly, model, case.loss, batch)
        take_step(sam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_the_first_step_is_sams() -> None:
    model, twin = MLP.model(), MLP.model()
    friendly, sam = FriendlySAM(sgd(model.parameters())), SAM(sgd(twin.parameters()))
    first, second, *_ = MLP.batches()
    for optimizer, held in ((friendly, model), (sam, twin)):
        take_step(optimizer, held, MLP.loss, first)
    assert identical(contents(model), contents(twin))
    for optimizer, held in ((friendly, model), (sam, twin)):
        take_step(optimizer, held, MLP.loss, second)
    assert not identical(contents(model), contents(twin))


def test_the_average_takes_the_raw_gradient_and_is_kept_by_the_optimizer_alone() -> None:
    """An average of the residual g - sigma m, as an older package had it, would stay where it began."""
    w = torch.nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))
    optimizer = FriendlySAM(torch.optim.SGD([w], lr=0.0), sigma=1.0, decay=0.75, rho=0.1)
    slopes = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 4.0])]
    for slope in slopes:
        optimizer.step(lambda rows, s=slope: (w @ s.double()).expand(len(rows)), targets=HEAD_AND_TAIL)
    (mean,) = optimizer.memory["ascent 0"].values()
    torch.testing.assert_close(mean, torch.tensor([0.75, 1.0], dtype=torch.float64), atol=1e-15, rtol=0)
    assert not optimizer.state


def test_each_term_has_an_average_of_its_own() -> None:
    """CC-SAM has a term for each class of the batch; the average follows the class, not the place."""
    model = MLP.model()
    optimizer = CCSAM(sgd(model.parameters(), lr=0.0), PRIORS, rho=0.1, ascent=Friendly(decay=0.5))
    take_step(optimizer, model, MLP.loss, MLP.batch(torch.tensor([0, 0, 3])))
    before = copy.deepcopy(list(optimizer.memory["ascent 0"].values()))
    take_step(optimizer, model, MLP.loss, MLP.batch(torch.tensor([3, 3, 4])))
    assert sorted(optimizer.memory) == ["ascent 0", "ascent 3", "ascent 4"]
    assert identical(before, list(optimizer.memory["ascent 0"].values()))


def test_a_batch_without_the_terms_rows_leaves_its_average_alone() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, ascent=Friendly())
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    before = copy.deepcopy(list(optimizer.memory["ascent 1"].values()))
    take_step(optimizer, model, MLP.loss, MLP.batch(torch.tensor([0, 1, 2])))
    assert identical(before, list(optimizer.memory["ascent 1"].values()))


def test_a_refused_step_leaves_the_average_alone() -> None:
    model = MLP.model()
    optimizer = FriendlySAM(sgd(model.parameters()))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    before = copy.deepcopy(list(optimizer.memory["ascent 0"].values()))
    x, y = MLP.batch(HEAD_AND_TAIL, 1)
    x[2] = torch.nan
    with pytest.raises(NonFiniteError):
        take_step(optimizer, model, MLP.loss, (x, y))
    assert identical(before, list(optimizer.memory["ascent 0"].values()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": float("inf")}, "sigma must be finite; got inf"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1; got 1.0"),
        ({"decay": -0.1}, "decay must be at least 0 and below 1; got -0.1"),
        ({"damping": float("nan")}, "damping must be finite and at least 0; got nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Friendly(**options)
