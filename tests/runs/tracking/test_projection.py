"""What trackers are to show of a folder."""

import json

import pytest

from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking.projection import Projection


@pytest.fixture
def folder(tmp_path):
    lines = [
        {"epoch": 1, "train_loss": 0.5, "seconds": 1.0, "validation": {"balanced": 0.25, "per_class": [0.5, None]}},
        {"epoch": 2, "train_loss": 0.25, "seconds": 1.0, "validation": None},
    ]
    made = RunFolder(tmp_path)
    made.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.yaml").write_text("lr: 0.1\n")
    return made


RESULT = {"epochs": 2, "train_seconds": 2.0, "test": {"balanced": 0.75}, "validation": {"per_class": [None, 1.0]}}


def test_a_line_of_metrics_is_a_step(folder):
    first = {"train/train_loss": 0.5, "train/seconds": 1.0, "validation/balanced": 0.25, "validation/recall/0": 0.5}
    second = {"train/train_loss": 0.25, "train/seconds": 1.0}
    assert Projection.of(folder) == Projection([(1, first), (2, second)], [], {})


def test_a_result_is_one_more_step_with_the_files_beside_it_written_or_still_to_come(folder):
    told = Projection.of(folder, RESULT)
    assert told.outcome == [(2, {"run/train_seconds": 2.0, "test/balanced": 0.75, "kept/recall/1": 1.0})]
    assert set(told.texts) == {"config.yaml", "result.json"}
    folder.write_result(RESULT)
    assert Projection.of(folder) == told
    assert told.texts["result.json"] == folder.result.read_text()


def test_a_comparison_or_a_study_is_its_files(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    (tmp_path / "trials.journal").write_text("")
    assert Projection.of(RunFolder(tmp_path)) == Projection([], [], {"comparison.json": "{}"})
