"""Focal-SAM against its formula, and the weights that make it another method."""

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, CASES, EMBEDDING, MLP, ROUTED, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import FocalSAM, ImbSAM
from optim.family import BASE_AND_GROUPS, BASES, COUNTS, PRIORS, assert_follows, grouped
from optim.loops import contents, identical, plain_step, sgd, take_step

GAMMA, STRENGTH = 1.7, 0.8


def share(y: Tensor) -> Tensor:
    """c_y = lambda (1 - n_y / N)^gamma of each row."""
    total = sum(COUNTS)
    return torch.tensor([STRENGTH * (1 - COUNTS[int(c)] / total) ** GAMMA for c in y], dtype=torch.float64)


@BASE_AND_GROUPS
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_focal_sam_equals_the_textbook_loop(case: Case, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = FocalSAM(
        BASES[base][0](given), PRIORS, gamma=GAMMA, strength=STRENGTH, model=model, batch_statistics="batch"
    )

    def gradient(params: object, losses_of: object, y: Tensor) -> oracles.Grads:
        focal = share(y) / len(y)
        still, moved = oracles.Addend((1 - share(y)) / len(y)), oracles.Addend(focal, focal, rhos)
        return oracles.family_gradient(
            params, losses_of, [still, moved], oracles.plain_direction(), coupled=case.coupled
        )

    assert_follows(optimizer, model, case, gradient, base=base)


@pytest.mark.parametrize("statistics", ["batch", "context"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_of_zero_and_one_are_imbsam(case: Case, statistics: str) -> None:
    model, twin = case.model(), case.model()
    options = {"rho": 0.2, "batch_statistics": statistics}
    focal = FocalSAM(sgd(model.parameters()), PRIORS, model=model, **options)
    focal.weights = TAIL.double()
    imbsam = ImbSAM(sgd(twin.parameters()), TAIL, model=twin, **options)
    for batch in case.batches():
        take_step(focal, model, case.loss, batch)
        take_step(imbsam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_strength_zero_is_the_base_optimizer_bit_for_bit() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, base = FocalSAM(sgd(model.parameters()), PRIORS, strength=0.0), sgd(twin.parameters())
    for batch in MLP.batches(torch.float32):
        take_step(optimizer, model, MLP.loss, batch)
        plain_step(base, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("strength", [0.3, 0.7, 0.8, 1.0, 1.1])
def test_the_two_parts_add_up_to_the_mean_in_every_bit(strength: float) -> None:
    """So that rho 0 is the base optimizer's step in float64 and in bfloat16 too, whatever the batch size."""
    optimizer = FocalSAM(sgd(MLP.model().parameters()), PRIORS, gamma=GAMMA, strength=strength)
    for size in range(1, 60):
        still, focal = optimizer.terms(torch.arange(size) % 5)
        assert torch.equal(still.descent + focal.descent, torch.full((size,), 1 / size, dtype=torch.float64))


def test_rarer_classes_have_more_focus() -> None:
    optimizer = FocalSAM(sgd(MLP.model().parameters()), PRIORS, gamma=2.0, strength=0.5)
    assert optimizer.weights.tolist() == sorted(optimizer.weights.tolist())
    assert float(optimizer.weights[-1]) == pytest.approx(0.5 * (1 - 1 / sum(COUNTS)) ** 2)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["gamma", "strength"])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{name} must be finite and at least 0; got {value}"):
        FocalSAM(sgd(MLP.model().parameters()), PRIORS, **{name: value})
