import math

import pytest

from imbsam.training.schedule import factor


def test_cosine_factors_are_those_written_out_by_hand():
    at = factor("cosine", epochs=4, warmup=0, steps_per_epoch=1)
    assert [at(step) for step in range(4)] == pytest.approx([1.0, 0.8535533905932737, 0.5, 0.14644660940672627])


def test_step_factors_fall_tenfold_after_80_and_90_percent():
    at = factor("step", epochs=10, warmup=0, steps_per_epoch=2)
    assert [at(step) for step in range(20)] == pytest.approx([1.0] * 16 + [0.1] * 2 + [0.01] * 2)


def test_constant_factor_stays_one():
    at = factor("constant", epochs=3, warmup=0, steps_per_epoch=5)
    assert {at(step) for step in range(15)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_warm_up_rises_linearly_to_one(schedule):
    at = factor(schedule, epochs=10, warmup=2, steps_per_epoch=2)
    assert [at(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_warm_up_of_a_fraction_of_an_epoch():
    at = factor("constant", epochs=1, warmup=0.5, steps_per_epoch=4)
    assert [at(step) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_cosine_after_warm_up_covers_the_steps_that_are_left():
    at = factor("cosine", epochs=3, warmup=1, steps_per_epoch=2)
    expected = [0.5 * (1 + math.cos(math.pi * done / 4)) for done in range(4)]
    assert [at(step) for step in range(2, 6)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 50])
def test_no_step_of_the_run_has_a_rate_of_zero(schedule, warmup):
    at = factor(schedule, epochs=7, warmup=warmup, steps_per_epoch=3)
    assert all(0 < at(step) <= 1 for step in range(21))
