"""What trackers are to show of a folder."""

from dataclasses import replace

import pytest

from imbsam.metrics import Metrics
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import EpochRecord
from imbsam.runs.tracking.projection import Projection

SCORES = Metrics(
    samples=2,
    log_loss=1.5,
    overall=0.75,
    balanced=0.75,
    macro_f1=0.5,
    many=None,
    medium=None,
    few=0.25,
    ece=0.125,
    per_class=(0.5, None),
    confusion=None,
)
SHOWN = {
    "log_loss": 1.5,
    "overall": 0.75,
    "balanced": 0.75,
    "macro_f1": 0.5,
    "few": 0.25,
    "ece": 0.125,
    "recall/0": 0.5,
}


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path)
    made.append_metrics(EpochRecord(1, 2, 0.1, 0.0, 0.5, 0, 1.0, SCORES))
    made.append_metrics(EpochRecord(2, 2, 0.1, 0.0, 0.25, 0, 1.0, None))
    (tmp_path / "config.yaml").write_text("lr: 0.1\n")
    return made


@pytest.fixture
def result(tmp_path, train):
    return replace(
        train(tmp_path / "run"),
        test=SCORES,
        likeliest=None,
        validation=None,
        classes=("a", "b"),
        counts=(3, 2),
        groups=("few", "few"),
        tail=(False, True),
    )


def under(part: str, numbers: dict[str, float]) -> dict[str, float]:
    return {f"{part}/{name}": value for name, value in numbers.items()}


def test_a_line_of_metrics_is_a_step(folder):
    training = {"lr": 0.1, "rho": 0.0, "seconds": 1.0}
    first = {**under("train", {**training, "train_loss": 0.5}), **under("validation", SHOWN)}
    assert Projection.of(folder) == Projection(
        [(1, first), (2, under("train", {**training, "train_loss": 0.25}))], [], {}
    )


def test_a_result_is_one_more_step_with_the_files_beside_it_written_or_still_to_come(folder, result):
    told = Projection.of(folder, result)
    ((step, outcome),) = told.outcome
    assert step == result.epochs
    assert outcome == {
        **under("run", {"train_seconds": result.train_seconds, "cost_ratio": result.cost_ratio}),
        **under("test", SHOWN),
    }
    assert set(told.texts) == {"config.yaml", "result.json"}
    folder.write_result(result)
    assert Projection.of(folder) == told
    assert told.texts["result.json"] == folder.result.read_text()


def test_a_comparison_or_a_study_is_its_files(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    (tmp_path / "trials.journal").write_text("")
    assert Projection.of(RunFolder(tmp_path)) == Projection([], [], {"comparison.json": "{}"})
