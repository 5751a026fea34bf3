"""A dense network with small steps takes one thread, and the process has as many as before afterwards."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from imbsam.anomaly import AnomalyDetector
from imbsam.anomaly import training as of_anomalies
from imbsam.estimators import SharpClassifier
from imbsam.estimators import training as of_estimators
from imbsam.runs import loop
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training.threads import SMALL, is_small, threads


@pytest.fixture(autouse=True)
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch) -> set[int]:
    """Numbers of threads that the steps of this test have."""
    found: set[int] = set()
    for module in (of_anomalies, of_estimators, loop):
        step = module.train_step

        def watched(*args, step=step, **options):
            found.add(torch.get_num_threads())
            return step(*args, **options)

        monkeypatch.setattr(module, "train_step", watched)
    return found


def test_small_is_told_by_weights_times_rows():
    network = nn.Linear(100, 79)  # 7,979 numbers
    rows = SMALL // 7979
    assert is_small(network, rows)
    assert not is_small(network, rows + 1)
    assert not is_small(nn.Linear(100, 79, device="meta"), 1)


def test_as_many_as_asked_for_inside_and_as_many_as_before_afterwards():
    with threads(2):
        assert torch.get_num_threads() == 2
        with threads(1), threads(None):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="odd"), threads(1):
        raise ValueError("odd")
    assert torch.get_num_threads() == 3
    with threads(None):
        assert torch.get_num_threads() == 3


def test_threads_that_overlap_leave_no_trace():
    within, over = threading.Event(), threading.Event()
    found = {}

    def other():
        with threads(1):
            within.set()
            over.wait(10)
        found["other"] = torch.get_num_threads()

    with threads(1):
        thread = threading.Thread(target=other)
        thread.start()
        within.wait(10)
    assert torch.get_num_threads() == 3
    over.set()
    thread.join()
    later = threading.Thread(target=lambda: found.update(later=torch.get_num_threads()))
    later.start()
    later.join()
    assert found == {"other": 3, "later": 3}
    assert torch.get_num_threads() == 3


def table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, 4)), (np.arange(rows) % 7 == 0).astype(int)


def test_a_small_classifier_takes_one_and_a_large_one_all(seen):
    x, y = table(60)
    SharpClassifier(random_state=0, max_iter=1).fit(x, y)
    assert seen == {1}
    assert torch.get_num_threads() == 3
    seen.clear()
    SharpClassifier(hidden=(1000, 1000), random_state=0, max_iter=1).fit(x, y)
    assert seen == {3}


@pytest.mark.parametrize("objective", ["auto", "deep-svdd", "feawad"])
def test_a_detector_of_rows_takes_one(objective, seen):
    x, y = table(60)
    AnomalyDetector(objective, steps=2, random_state=0).fit(x, y)
    assert seen == {1}
    assert torch.get_num_threads() == 3


def test_a_detector_of_images_takes_all(seen):
    x = np.random.default_rng(0).standard_normal((30, 1, 8, 8))
    AnomalyDetector(image_shape=(1, 8, 8), steps=2, random_state=0).fit(x, np.arange(30) % 7 == 0)
    assert seen == {3}


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"hidden": [8]}, 1),
        ({"hidden": [8], "threads": 2}, 1),
        ({"model": "resnet20", "width": 0.25}, 3),
        ({"model": "resnet20", "width": 0.25, "threads": 2}, 2),
    ],
)
def test_a_run_of_a_small_mlp_takes_one_and_of_images_what_was_asked_for(values, number, tmp_path, options, seen):
    fit(RunFolder(tmp_path / "run"), "digits", options(**{"epochs": 1, "threads": None, **values}), label="a")
    assert seen == {number}
    assert torch.get_num_threads() == 3
