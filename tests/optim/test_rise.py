"""The ascent by rise against the formula, and what it is made for."""

import math

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, NO_TAIL, ROUTED, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import LESAM, SAM, Gradient, ImbSAM, Rise, SharpnessAware
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


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rho", [0.02, 10.0])
@pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM], ids=str)
def test_le_sam_equals_its_textbook_loop_while_sigma_falls(case: Case, rho: float, base: str) -> None:
    """In the first steps it is whole, then it falls, and in the last nothing is perturbed."""
    model = case.model()
    made = BASES[base][0](model.parameters())
    optimizer = LESAM(made, rho=rho, sigma=0.05, anneal_from=1, anneal_to=4, model=model, batch_statistics="batch")
    direction = oracles.LESAMDirection(0.05, 1, 4)

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        addend = oracles.Addend(mean, mean, [rho] * len(params))
        return oracles.family_gradient(params, losses_of, [addend], direction, coupled=case.coupled)

    assert len(case.batches()) == 5
    assert_follows(optimizer, model, case, gradient, base=base)


def test_the_rise_falls_for_the_tail_alone_as_well() -> None:
    """Steps count, not those with a tail row: the fourth has none."""
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=9.0, ascent=Rise(1e-3, anneal_from=0, anneal_to=5))
    rises = []
    for targets in (HEAD_AND_TAIL, HEAD_AND_TAIL, HEAD_AND_TAIL, NO_TAIL, HEAD_AND_TAIL, HEAD_AND_TAIL):
        seen = in_the_passes(optimizer, model, 1.0, targets)
        rises.append(seen[1][0] - seen[0][0] if len(seen) == 2 else None)
    expected = [1e-3 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(6)]
    assert rises[3] is None
    assert [r for r in rises if r is not None] == pytest.approx([*expected[:3], *expected[4:]], rel=0.05, abs=1e-12)


def test_a_rise_that_has_fallen_goes_on_from_a_checkpoint() -> None:
    models = [MLP.model() for _ in range(2)]
    whole, resumed = (LESAM(sgd(m.parameters()), sigma=0.1, rho=9.0, anneal_from=1, anneal_to=5) for m in models)
    for number, batch in enumerate(MLP.batches()):
        take_step(whole, models[0], MLP.loss, batch)
        if number == 2:
            models[1].load_state_dict(models[0].state_dict())
            resumed.load_state_dict(whole.state_dict())
        if number > 2:
            take_step(resumed, models[1], MLP.loss, batch)
    assert identical(contents(models[0], whole), contents(models[1], resumed))


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ((3, None), "anneal_from and anneal_to go together"),
        ((None, 3), "anneal_from and anneal_to go together"),
        ((-1, 3), "anneal_from must be a whole number, at least 0; got -1"),
        ((0.5, 3), "anneal_from must be a whole number, at least 0; got 0.5"),
        ((4, 3), "anneal_to must be a whole number, at least 4; got 3"),
    ],
)
def test_steps_between_which_it_cannot_fall_are_refused(steps: tuple[object, object], told: str) -> None:
    for make in (Rise, lambda **options: LESAM(sgd(MLP.model().parameters()), **options)):
        with pytest.raises(OptionError, match=told):
            make(anneal_from=steps[0], anneal_to=steps[1])


def test_a_rise_out_of_reach_leaves_the_plain_perturbation_bit_for_bit() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    one = SAM(sgd(model.parameters()), rho=0.3, ascent=Rise(1e6))
    other = SAM(sgd(twin.parameters()), rho=0.3, ascent=Gradient())
    for batch in MLP.batches(torch.float32):
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def in_the_passes(
    optimizer: SharpnessAware, model: nn.Module, steepness: float, targets: Tensor = HEAD_AND_TAIL
) -> list[tuple[float, list[Tensor]]]:
    """The tail's part of the batch's loss and the weights, in each pass that holds tail rows."""
    x, y = MLP.batch(targets)
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
