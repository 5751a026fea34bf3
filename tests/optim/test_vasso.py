"""VaSSO, and its ascent under other methods, against the textbook loop."""

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, EMBEDDING, MLP, ROUTED, TAIL, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import SAM, Gradient, ImbSAM, VarianceSuppressed, VaSSO
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, identical, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize("theta", [0.9, 0.2])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_it_equals_the_textbook_loop(case: Case, theta: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = VaSSO(BASES[base][0](given), theta=theta, model=model)
    direction = oracles.VaSSODirection(theta)

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        return oracles.family_gradient(
            params, losses_of, [oracles.Addend(mean, mean, rhos)], direction, coupled=case.coupled
        )

    assert_follows(optimizer, model, case, gradient, base=base)


def test_with_theta_one_it_is_the_gradient() -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = VaSSO(sgd(model.parameters()), theta=1.0), SAM(sgd(twin.parameters()), ascent=Gradient())
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-14, rtol=0)


def test_a_step_that_is_refused_leaves_the_average_as_it_was() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, ascent=VarianceSuppressed(), model=model)
    x, y = MLP.batches()[0]
    take_step(optimizer, model, MLP.loss, (x, y))
    before = [d.clone() for d in optimizer.memory["ascent 1"].values()]
    with pytest.raises(NonFiniteError):
        take_step(optimizer, model, MLP.loss, (x * torch.nan, y))
    assert identical(before, list(optimizer.memory["ascent 1"].values()))


@pytest.mark.parametrize("theta", [0.0, 1.1, float("nan")])
def test_a_weight_that_is_none_is_refused(theta: float) -> None:
    with pytest.raises(OptionError, match="theta must be above 0 and at most 1"):
        VarianceSuppressed(theta)
