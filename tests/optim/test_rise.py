"""The ascent by rise against the formula, and what it is made for."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import SAM, Gradient, ImbSAM, Rise, SharpnessAware
from optim.family import BASE_AND_GROUPS, BASES, GROUPS, assert_follows, grouped
from optim.loops import contents, identical, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize("rise", [1e-3, 0.05, 10.0])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_it_equals_the_textbook_loop(case: Case, rise: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.5, 0.2)
    optimizer = ImbSAM(BASES[base][0](given), TAIL, ascent=Rise(rise), model=model, batch_statistics="batch")

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        head, tail = mean * ~TAIL[y], mean * TAIL[y]
        addends = [oracles.Addend(head), oracles.Addend(tail, tail, rhos)]
        return oracles.family_gradient(params, losses_of, addends, oracles.rise_direction(rise), coupled=case.coupled)

    assert_follows(optimizer, model, case, gradient, base=base)


def test_a_rise_out_of_reach_leaves_the_plain_perturbation_bit_for_bit() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    one = SAM(sgd(model.parameters()), rho=0.3, ascent=Rise(1e6))
    other = SAM(sgd(twin.parameters()), rho=0.3, ascent=Gradient())
    for batch in MLP.batches(torch.float32):
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def in_the_passes(optimizer: SharpnessAware, model: nn.Module, steepness: float) -> list[tuple[float, list[Tensor]]]:
    """The tail's part of the batch's loss and the weights, in each pass that holds tail rows."""
    x, y = MLP.batch(HEAD_AND_TAIL)
    seen: list[tuple[float, list[Tensor]]] = []

    def criterion(rows: Tensor) -> Tensor:
        losses = steepness * MLP.loss(model(x[rows]), y[rows])
        if TAIL[y[rows]].any():
            part = losses.detach()[TAIL[y[rows]]].sum() / len(y)
            seen.append((float(part), [p.detach().clone() for p in model.parameters()]))
        return losses

    optimizer.step(criterion, targets=y)
    return seen


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("steepness", [1.0, 10.0, 100.0])
def test_the_loss_rises_by_so_much_however_steep_it_is(steepness: float, groups: str) -> None:
    model = MLP.model()
    given, _ = grouped(model, groups, 0.5, 0.2)
    optimizer = ImbSAM(torch.optim.SGD(given, lr=0.1), TAIL, ascent=Rise(1e-4), model=model)
    (before, _), (after, _) = in_the_passes(optimizer, model, steepness)
    assert after - before == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize("groups", GROUPS)
def test_a_tail_without_a_gradient_is_not_moved(groups: str) -> None:
    model = MLP.model()
    given, _ = grouped(model, groups, 0.5, 0.2)
    optimizer = ImbSAM(torch.optim.SGD(given, lr=0.1), TAIL, ascent=Rise(), model=model)
    (_, before), (_, after) = in_the_passes(optimizer, model, 0.0)
    assert identical(before, after)


@pytest.mark.parametrize("rise", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_rise_is_refused(rise: float) -> None:
    with pytest.raises(OptionError, match="rise must be finite and above 0"):
        Rise(rise)
