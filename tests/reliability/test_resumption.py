"""A run that signals ended, wherever and how often, goes on to the bits of the run that none ended."""

import pytest

from reliability import resumption, small
from reliability.resumption import CASES, STOPS


@pytest.fixture
def data(tmp_path):
    return small.source(tmp_path)


def assert_same_after(stops, data, tmp_path, monkeypatch, **values):
    straight = resumption.train(tmp_path / "straight", data, monkeypatch, **values)
    ended = resumption.train(tmp_path / "ended", data, monkeypatch, stops, **values)
    assert len(straight.batches) == 2 * small.STEPS
    assert ended.batches == straight.batches
    assert small.outcome(tmp_path / "ended") == small.outcome(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "base"), CASES)
def test_every_method_goes_on_bit_for_bit(data, tmp_path, monkeypatch, method, base):
    assert_same_after(STOPS, data, tmp_path, monkeypatch, method=method, base=base)


@pytest.mark.parametrize("stop", STOPS)
def test_with_workers_the_next_batches_are_the_same(data, tmp_path, monkeypatch, stop):
    assert_same_after([stop], data, tmp_path, monkeypatch, workers=2)


@pytest.mark.parametrize(
    "values",
    [
        {"sampler": "balanced"},
        {"sampler": "gathered", "tail_rows": 4},
        {"loss": "ldam"},
        {"sampler": "square-root", "label_smoothing": 0.1},
    ],
)
def test_what_changes_from_step_to_step_goes_on_bit_for_bit(data, tmp_path, monkeypatch, values):
    assert_same_after([2], data, tmp_path, monkeypatch, **values)
