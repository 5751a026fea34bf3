import pytest
import torch

from imbsam.errors import NonFiniteError
from imbsam.sharpness import line, plane, random_direction


def test_a_line_is_the_loss_at_each_offset_for_every_class_and_group(case, part):
    surface = case.surface()
    direction = random_direction(surface, 2)
    losses = line(surface, direction, [-0.5, 0, 0.7])
    for row, a in enumerate([-0.5, 0, 0.7]):
        expected = float(case.loss(part, case.weights() + a * direction))
        assert float(surface.mean_loss(losses, part)[row]) == pytest.approx(expected, abs=1e-10)


def test_a_plane_goes_up_by_rows_and_across_by_columns(case):
    surface = case.surface()
    first, second = random_direction(surface, 0), random_direction(surface, 1)
    losses = plane(surface, (first, second), [-0.2, 0.3], [0.0, 0.1, 0.9])
    assert losses.shape == (3, 2, 4)
    expected = float(case.loss([3], case.weights() + 0.3 * first + 0.9 * second))
    assert float(losses[2, 1, 3]) == pytest.approx(expected, abs=1e-10)


def test_one_pass_a_point_serves_all_classes_and_progress_is_told(case):
    surface, told = case.surface(), []
    direction = random_direction(surface)
    plane(surface, (direction, direction), [0, 1], [0, 1, 2], on_point=lambda *now: told.append(now))
    assert surface.forwarded == 6 * len(case.rows.targets)
    assert told == [(n, 6) for n in range(1, 7)]


def test_a_loss_that_overflows_far_away_is_infinite_and_one_that_is_nan_is_refused(case):
    surface = case.surface(dtype=torch.float32)
    direction = torch.zeros_like(surface.weights)
    direction[-1] = 1
    assert line(surface, direction, [3e38])[0, 0] > 1e38
    with pytest.raises(NonFiniteError, match="offsets inf, 0"):
        line(surface, direction, [float("inf")])
