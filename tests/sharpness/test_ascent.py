import pytest
import torch
from torch import nn

from imbsam.errors import NonFiniteError, OptionError
from imbsam.sharpness import LossSurface, Rows, sam_sharpness


def test_one_step_is_the_perturbation_of_sam(case, part):
    gradient = case.gradient(part)
    e = 0.3 * gradient / gradient.norm()
    found = sam_sharpness(case.surface(), part, rho=0.3)
    assert found.rise == pytest.approx(float(case.loss(part, case.weights() + e) - case.loss(part)), abs=1e-10)
    assert found.loss == pytest.approx(float(case.loss(part)), abs=1e-12)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), abs=1e-10)


def test_adaptive_is_the_perturbation_of_asam(case, part):
    gradient, size = case.gradient(part), case.weights().abs() + 0.02
    e = 0.4 * size**2 * gradient / (size * gradient).norm()
    found = sam_sharpness(case.surface(), part, rho=0.4, adaptive=True, eta=0.02)
    assert found.rise == pytest.approx(float(case.loss(part, case.weights() + e) - case.loss(part)), abs=1e-10)


def test_steps_are_projected_onto_the_ball_and_the_highest_point_counts(case):
    part, rho, steps = [2, 3], 0.8, 4
    e, heights = torch.zeros_like(case.weights()), []
    for _ in range(steps):
        g = case.gradient(part, case.weights() + e)
        e = e + 2 * rho / steps * g / g.norm()
        e = e * min(1.0, rho / float(e.norm()))
        heights.append(float(case.loss(part, case.weights() + e)))
    found = sam_sharpness(case.surface(), part, rho=rho, steps=steps)
    assert found.rise == pytest.approx(max(heights) - float(case.loss(part)), abs=1e-9)
    assert found.rise > sam_sharpness(case.surface(), part, rho=rho).rise


def test_rows_forwarded_are_two_passes_for_a_step_and_one_for_each_further(case):
    for steps in (1, 3):
        surface = case.surface()
        sam_sharpness(surface, [0, 3], steps=steps)
        assert surface.forwarded == (1 + steps) * int(case.rows.drawn[[0, 3]].sum())


def test_at_radius_zero_nothing_rises(case):
    assert sam_sharpness(case.surface(), rho=0.0).rise == 0


@pytest.mark.parametrize("options", [{"rho": -1.0}, {"rho": float("nan")}, {"steps": 0}, {"eta": -0.1}])
def test_options_that_cannot_be_are_refused(case, options):
    with pytest.raises(OptionError):
        sam_sharpness(case.surface(), **options)


def test_a_radius_at_which_the_loss_overflows_is_refused():
    rows = Rows.draw(torch.ones(1, 1), torch.zeros(1, dtype=torch.long))
    surface = LossSurface(nn.Linear(1, 1), lambda out, y: out[:, 0].exp(), rows)
    assert sam_sharpness(surface, rho=1).rise > 1
    with pytest.raises(NonFiniteError, match="Choose a smaller rho"):
        sam_sharpness(surface, rho=500)
