"""GNM against the formula, and the noise that it draws."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, ROUTED, Case, frozen_layer
from imbsam.errors import OptionError
from imbsam.optim import GNM, ClampedNoise, Slope
from optim.family import BASES, assert_follows
from optim.loops import contents, identical, sgd, take_step


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM, Case("frozen layer", frozen_layer)], ids=str)
def test_it_equals_the_textbook_loop_while_the_noise_is_halved(case: Case, base: str) -> None:
    model = case.model()
    optimizer = GNM(BASES[base][0](model.parameters()), rho=3.0, scale=0.2, halve_every=2, model=model)
    made: list[int] = []

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        length = 3.0 * 0.2 * 0.5 ** (len(made) // 2)
        made.append(len(y))
        with oracles.displaced(params, oracles.clamped_noise(params, length)):
            return oracles.gradient(params, losses_of(torch.arange(len(y))).mean())

    assert_follows(optimizer, model, case, gradient, base=base, at_the_weights=case.coupled)
    assert len(made) == 5


def test_the_noise_is_normal_of_a_third_and_clamped_at_one() -> None:
    p = torch.zeros(200_000, dtype=torch.float64)
    torch.manual_seed(0)
    ClampedNoise(0.5).climb([Slope(2.0, [p], [], [None])], {})
    assert float(p.abs().max()) == 1.0
    normal = torch.distributions.Normal(0.0, 1 / 3)
    for bound in (-0.5, 0.0, 0.2, 0.9):
        assert float((p < bound).double().mean()) == pytest.approx(float(normal.cdf(torch.tensor(bound))), abs=0.004)


def test_complex_weights_get_noise_in_both_parts() -> None:
    p = torch.zeros(50_000, dtype=torch.complex128)
    ClampedNoise(1.0).climb([Slope(1.0, [p], [], [None])], {})
    assert float(p.real.std()) == pytest.approx(1 / 3, abs=0.01)
    assert float(p.imag.std()) == pytest.approx(1 / 3, abs=0.01)


def test_steps_count_for_halving_and_go_on_from_a_checkpoint() -> None:
    models = [MLP.model() for _ in range(2)]
    whole, resumed = (GNM(sgd(m.parameters()), rho=3.0, halve_every=2, model=m) for m in models)
    for number, batch in enumerate(MLP.batches()):
        torch.manual_seed(number)
        take_step(whole, models[0], MLP.loss, batch)
        if number == 2:
            models[1].load_state_dict(models[0].state_dict())
            resumed.load_state_dict(whole.state_dict())
        if number > 2:
            torch.manual_seed(number)
            take_step(resumed, models[1], MLP.loss, batch)
    assert identical(contents(models[0], whole), contents(models[1], resumed))


def test_a_group_of_rho_zero_gets_no_noise() -> None:
    model = MLP.model()
    still, moved = model[0], model[2]
    groups = [{"params": list(still.parameters()), "rho": 0.0}, {"params": list(moved.parameters())}]
    optimizer = GNM(torch.optim.SGD(groups, lr=0.1), rho=1.0, model=model)
    before = contents(nn.ModuleList([still])), contents(nn.ModuleList([moved]))
    x, y = MLP.batch(HEAD_AND_TAIL)
    with optimizer.passes(y) as passes:
        for p in passes:
            assert identical(before[0], contents(nn.ModuleList([still])))
            assert not identical(before[1], contents(nn.ModuleList([moved])))
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scale": -1.0}, "scale must be finite and at least 0"),
        ({"halve_every": 0}, "halve_every must be a whole number, at least 1"),
        ({"halve_every": 1.5}, "halve_every must be a whole number, at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        GNM(sgd(MLP.model().parameters()), **options)
