"""What the figures draw, read back from their axes."""

import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from imbsam.report import summarise
from imbsam.report.confusion import confusion_matrix
from imbsam.report.curves import learning_curves
from imbsam.report.drawing import Picture, drawing, to_svg
from imbsam.report.figures import cost_against_gain, recall_by_count, shot_group_bars
from imbsam.report.files import read_run, read_study
from imbsam.runs.folder import RunFolder
from made_records import made_epoch, made_metrics, made_result


@pytest.fixture(autouse=True)
def styled():
    with drawing():
        yield


def edit(folder, change):
    path = folder / "result.json"
    result = json.loads(path.read_text())
    change(result)
    path.write_text(json.dumps(result))
    return read_run(folder)


def test_bars_are_the_means_of_the_summary(comparison, tmp_path):
    study = read_study(comparison(tmp_path, seeds=2, epochs=1))
    summary = summarise([run.result for run in study.runs], labels=study.labels)
    axes = shot_group_bars(summary).figure.axes
    shown = [group for group in ("many", "medium", "few", "tail") if summary.scores["sgd"][group]]
    for axis, group in zip(axes, shown, strict=True):
        drawn = [bar.get_width() / 100 for bar in axis.patches]
        assert drawn == pytest.approx([summary.scores[label][group].mean for label in summary.labels])


@pytest.mark.parametrize(("tail", "panels"), [(0.3, ["few-shot recall"]), (0.4, ["few-shot recall", "tail recall"])])
def test_the_tail_has_bars_of_its_own_unless_it_is_the_few_shot_classes(tail, panels):
    scores = {"many": None, "medium": None, "few": 0.3, "tail": tail}
    summary = summarise([made_result("sgd", 0, made_metrics(**scores)), made_result("sam", 0, made_metrics(**scores))])
    assert [axis.get_title(loc="left") for axis in shot_group_bars(summary).figure.axes] == panels


def test_classes_are_placed_by_their_count_in_each_seed(comparison, tmp_path):
    study = read_study(comparison(tmp_path, methods=("sgd",), seeds=3, shuffle=True, epochs=1))
    line = recall_by_count(study, "test").figure.axes[0].lines[0]
    for count, mean in zip(line.get_xdata(), line.get_ydata(), strict=True):
        recalls = []
        for run in study.runs:
            for n, recall in zip(run.result.counts, run.result.test.per_class, strict=True):
                if n == count:
                    recalls.append(100 * recall)
        assert mean == pytest.approx(sum(recalls) / len(recalls))


def test_many_counts_are_pooled_without_losing_a_class(run, tmp_path):
    counts = list(range(1, 121))
    run(tmp_path, counts=counts, epochs=1)
    read = edit(tmp_path, lambda result: result["test"].update(per_class=[n / 120 for n in counts]))
    picture = recall_by_count(read_study(tmp_path), "test")
    line = picture.figure.axes[0].lines[0]
    assert len(read.result.counts) == 120
    np.testing.assert_allclose(line.get_ydata(), [100 * (4.5 + 8 * g) / 120 for g in range(15)])
    np.testing.assert_allclose(line.get_xdata(), [4.5 + 8 * g for g in range(15)])


def test_curves_are_means_over_the_seeds_that_reached_the_epoch(comparison, tmp_path):
    comparison(tmp_path, methods=("sgd",), seeds=2)
    for seed, losses in enumerate(([1.0, 0.5, math.nan], [3.0])):
        held = RunFolder(tmp_path / f"runs/sgd-seed{seed}")
        held.keep_metrics(0)
        for epoch, loss in enumerate(losses, start=1):
            held.append_metrics(made_epoch(epoch, train_loss=loss))
    (axis,) = learning_curves(read_study(tmp_path)).figure.axes
    assert axis.lines[0].get_xdata().tolist() == [1, 2]
    assert axis.lines[0].get_ydata().tolist() == [2.0, 0.5]


def test_confusion_is_summed_in_the_order_of_each_runs_counts(run, tmp_path):
    def first(result):
        result["test"]["confusion"] = [[8, 2], [5, 5]]

    def second(result):
        result["test"]["confusion"] = [[1, 9], [4, 6]]

    runs = [
        edit(run(tmp_path / "a", seed=0, counts=[100, 10], epochs=1), first),
        edit(run(tmp_path / "b", seed=1, counts=[10, 100], epochs=1), second),
    ]
    picture = confusion_matrix(runs, "test", name="confusion", label="sgd")
    shares = picture.figure.axes[0].collections[0].get_array()
    # The frequent class: 8 and 6 of 20 stay; the rare one: 5 and 9 of 20 are taken for the frequent one.
    np.testing.assert_allclose(shares, [[70, 30], [70, 30]])
    assert "rank 2 (10) predicted as rank 1 (100), 70 %" in picture.alt


def test_confusion_of_many_classes_pools_neighbours_and_keeps_every_sample(run, tmp_path):
    size = 130

    def shifted(result):
        result["test"]["confusion"] = [[int(c == (r + 1) % size) for c in range(size)] for r in range(size)]

    counts = list(range(2 * size, size, -1))
    read = edit(run(tmp_path, counts=counts, epochs=1), shifted)
    shares = confusion_matrix([read], "test", name="confusion", label="sgd").figure.axes[0].collections[0].get_array()
    assert shares.shape == (50, 50)
    np.testing.assert_allclose(shares.sum(axis=1), 100)


def test_a_run_without_confusion_has_no_matrix(run, tmp_path):
    read = edit(run(tmp_path, epochs=1), lambda result: result["test"].update(confusion=None))
    assert confusion_matrix([read], "test", name="confusion", label="sgd") is None


def test_in_the_page_texts_stay_texts_and_ink_follows_the_scheme(comparison, tmp_path):
    study = read_study(comparison(tmp_path, methods=("sgd", "$x_1$"), seeds=1, epochs=1))
    picture = recall_by_count(study, "test")
    assert isinstance(picture, Picture)
    svg = to_svg(picture)
    assert ">$x_1$</text>" in svg
    assert "currentcolor" in svg
    assert "#1b1f24" not in svg
    assert "#ffffff" not in svg


def test_every_cell_of_a_confusion_says_what_it_counts(run, tmp_path):
    read = edit(
        run(tmp_path, counts=[100, 10], epochs=1, names=["cat", "eel"]),
        lambda result: result["test"].update(confusion=[[8, 2], [3, 0]]),
    )
    picture = confusion_matrix([read], "test", name="confusion", label="sgd")
    assert picture.tips["cells"] == [
        "cat (100) predicted as cat (100): 8 of 10, 80.0 %",
        "cat (100) predicted as eel (10): 2 of 10, 20.0 %",
        "eel (10) predicted as cat (100): 3 of 3, 100.0 %",
        "eel (10) predicted as eel (10): 0 of 3, 0.0 %",
    ]
    root = ET.fromstring(to_svg(picture))
    assert [mark.get("data-tip") for mark in root.iter() if mark.get("data-tip")] == picture.tips["cells"]


def test_a_mark_and_its_words_are_at_the_same_place(run, comparison, tmp_path):
    study = read_study(comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2, epochs=3))
    picture = recall_by_count(study, "test")
    assert picture is not None
    root = ET.fromstring(to_svg(picture))
    marks = [m for g in root.iter("g") if g.get("id") == "classes-mean-1" for m in g.iter("use")]
    heights = [float(mark.get("y")) for mark in marks]
    recalls = [float(re.search(r"([\d.]+) %", mark.get("data-tip"))[1]) for mark in marks]
    assert len(recalls) > 3
    np.testing.assert_allclose(np.polyval(np.polyfit(recalls, heights, 1), recalls), heights, atol=0.2)


def test_cost_against_gain_shows_each_method_beside_the_baseline(comparison, tmp_path):
    study = read_study(comparison(tmp_path, seeds=3, epochs=1))
    summary = summarise([r.result for r in study.runs], labels=study.labels)
    picture = cost_against_gain(summary)
    gain = summary.differences["imbsam"]["few"]
    (line,) = [line for line in picture.figure.axes[0].lines if line.get_gid() == "gain-2"]
    np.testing.assert_allclose(line.get_xydata(), [[1.13, 100 * gain.mean]])
    assert picture.tips["gain-2"][0].endswith("points over 3 seeds, at 1.13 times the rows")


def test_one_method_has_no_gain(run, tmp_path):
    read = run(tmp_path, epochs=1)
    assert cost_against_gain(summarise([read_run(read).result])) is None
