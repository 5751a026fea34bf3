import json

import pytest

from imbsam.errors import RunError
from imbsam.report import write_report
from imbsam.report.files import read_run, read_study


def damage(folder, **changes):
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_is_read_with_its_epochs(run, tmp_path):
    read = read_run(run(tmp_path, label="sam", seed=4, epochs=5))
    assert (read.result.label, read.result.seed) == ("sam", 4)
    assert [epoch.epoch for epoch in read.epochs] == [1, 2, 3, 4, 5]


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(RunError, match=r"result\.json is missing, and so is comparison\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": 1'])
def test_a_result_that_is_no_json_is_named(run, tmp_path, content):
    (run(tmp_path) / "result.json").write_bytes(content)
    with pytest.raises(RunError, match=r"result\.json: not valid JSON"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r"result\.json: schema: Input should be 1"),
        ({"counts": ["many"]}, r"result\.json: counts\.0: "),
        ({"groups": ["some"] * 10}, r"result\.json: groups\.0: "),
        ({"counts": [3, 4]}, r"result\.json: counts has 2 entries for 10 classes"),
        ({"tail": []}, r"result\.json: tail has 0 entries for 10 classes"),
        ({"test": {"samples": 9, "log_loss": 0.5, "overall": 1.0}}, r"result\.json: test\.balanced: Field required"),
    ],
)
def test_a_result_with_wrong_contents_is_named_with_the_entry(run, tmp_path, changes, message):
    damage(run(tmp_path), **changes)
    with pytest.raises(RunError, match=message):
        read_run(tmp_path)


def test_a_confusion_matrix_that_is_not_square_is_named(run, tmp_path):
    result = json.loads((run(tmp_path) / "result.json").read_text())
    result["test"]["confusion"][3].pop()
    damage(tmp_path, test=result["test"])
    with pytest.raises(RunError, match=r"test\.confusion\[3\] has 9 entries"):
        read_run(tmp_path)


def test_a_damaged_line_of_the_metrics_is_named_by_its_number(run, tmp_path):
    path = run(tmp_path, epochs=3) / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 3: not valid JSON"):
        write_report(tmp_path)


def test_a_comparison_keeps_its_finished_runs_and_lists_the_others(comparison, tmp_path):
    comparison(tmp_path, seeds=2)
    (tmp_path / "runs/sam-seed1/result.json").unlink()
    study = read_study(tmp_path)
    assert len(study.runs) == 5
    assert study.missing == ("runs/sam-seed1",)
    assert [len(study.runs_of(label)) for label in study.labels] == [2, 1, 2]


def test_a_damaged_run_of_a_comparison_is_an_error_and_not_left_out(comparison, tmp_path):
    comparison(tmp_path, seeds=1)
    (tmp_path / "runs/sam-seed0/result.json").write_text("{}")
    with pytest.raises(RunError, match=r"sam-seed0.result\.json: schema: Field required"):
        read_study(tmp_path)


def test_a_comparison_without_a_finished_run_is_refused(comparison, tmp_path):
    for path in comparison(tmp_path, seeds=1).glob("runs/*/result.json"):
        path.unlink()
    with pytest.raises(RunError, match="none of its 3 runs"):
        read_study(tmp_path)


def test_a_damaged_comparison_is_named(comparison, tmp_path):
    (comparison(tmp_path, seeds=1) / "comparison.json").write_text('{"schema": 1}')
    with pytest.raises(RunError, match=r"comparison\.json: source: Field required"):
        read_study(tmp_path)
