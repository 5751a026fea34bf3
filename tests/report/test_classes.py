import json

from imbsam.report import summarise
from imbsam.report.classes import class_table, confusion_table, one_by_one
from imbsam.report.files import read_study


def opened(folder, recalls, confusion=None):
    """The study of a comparison in which each label has these recalls of its classes, one list a seed."""
    for label, by_seed in recalls.items():
        for seed, per_class in enumerate(by_seed):
            path = folder / f"runs/{label}-seed{seed}/result.json"
            result = json.loads(path.read_text())
            result["test"]["per_class"] = per_class
            if confusion:
                result["test"]["confusion"] = confusion[label]
            path.write_text(json.dumps(result))
    study = read_study(folder)
    return study, summarise([run.result for run in study.runs], labels=study.labels)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_a_class_has_its_mean_recall_by_method_and_the_leaders_gain(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2, epochs=1, counts=[200, 5])
    study, summary = opened(folder, {"sgd": [[1.0, 0.2], [0.8, 0.4]], "imbsam": [[0.9, 0.5], [0.7, 0.7]]})
    table = class_table(study, summary)
    assert "over 2 seeds" in table.caption
    assert texts(table) == [
        ["class 0", "200", "many", "no", "90.0", "80.0", "−10.0"],
        ["class 1", "5", "few", "yes", "30.0", "60.0", "+30.0"],
    ]


def test_a_class_that_was_not_measured_has_no_gain(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=1, epochs=1, counts=[200, 5])
    study, summary = opened(folder, {"sgd": [[1.0, None]], "imbsam": [[0.9, None]]})
    assert texts(class_table(study, summary))[1][-3:] == ["–", "–", "–"]


def test_seeds_that_draw_other_rare_classes_are_not_mixed(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=3, epochs=1, shuffle=True)
    study = read_study(folder)
    summary = summarise([run.result for run in study.runs], labels=study.labels)
    table = class_table(study, summary)
    first = study.runs[0].result
    assert "seed 0 only" in table.caption
    recalls = dict(zip(first.classes, first.test.per_class, strict=True))
    assert {row[0]: row[4] for row in texts(table)} == {name: f"{100 * r:.1f}" for name, r in recalls.items()}


def test_confusions_are_those_of_rare_classes_with_frequent_ones(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2, epochs=1, counts=[200, 50, 5])
    confusion = {
        "sgd": [[30, 10, 0], [5, 35, 0], [20, 10, 10]],
        "imbsam": [[30, 10, 0], [2, 38, 0], [4, 0, 36]],
    }
    recalls = {label: [[0.5] * 3] * 2 for label in confusion}
    study, summary = opened(folder, recalls, confusion)
    table = confusion_table(study, summary)
    assert table.columns == ["rare class", "predicted as", "sgd", "imbsam"]
    assert texts(table) == [
        ["class 2 (5)", "class 0 (200)", "50.0\u00a0%", "10.0\u00a0%"],
        ["class 2 (5)", "class 1 (50)", "25.0\u00a0%", "0.0\u00a0%"],
        ["class 1 (50)", "class 0 (200)", "12.5\u00a0%", "5.0\u00a0%"],
    ]


def test_one_class_alone_shows_what_its_samples_were_taken_for(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2, epochs=1, counts=[200, 5])
    confusion = {"sgd": [[40, 0], [30, 10]], "imbsam": [[38, 2], [10, 30]]}
    study, summary = opened(folder, {label: [[0.5] * 2] * 2 for label in confusion}, confusion)
    shown = one_by_one(study, summary)
    assert shown["order"] == [1, 0]
    assert shown["labels"] == ["sgd", "imbsam"]
    assert shown["classes"][1] == {
        "name": "class 1",
        "about": "5 training samples, few-shot, tail",
        "taken": [[(0, 0.75), (1, 0.25)], [(1, 0.75), (0, 0.25)]],
    }


def test_without_a_confusion_matrix_there_is_nothing_to_show(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=1, epochs=1, counts=[200, 5])
    study, summary = opened(folder, {"sgd": [[1, 1]], "imbsam": [[1, 1]]}, {"sgd": None, "imbsam": None})
    for path in folder.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        result["test"]["confusion"] = None
        path.write_text(json.dumps(result))
    study = read_study(folder)
    assert confusion_table(study, summary) is None
    assert one_by_one(study, summary) is None
