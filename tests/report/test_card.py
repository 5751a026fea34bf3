import json

import yaml

from imbsam.report import write_report
from imbsam.report.files import read_run


def card(folder) -> str:
    write_report(folder)
    return (folder / "model-card.md").read_text()


def test_the_head_is_what_model_hubs_read(run, tmp_path):
    _, head, _ = card(run(tmp_path / "imbsam-seed0")).split("---\n", maxsplit=2)
    assert yaml.safe_load(head) == {
        "library_name": "imbsam",
        "pipeline_tag": "image-classification",
        "tags": ["imbalanced-classification", "long-tail", "imbsam"],
    }


def test_it_tells_the_scores_and_each_class_rarest_first(run, tmp_path):
    folder = run(tmp_path / "imbsam-seed0", counts=[200, 50, 3], names=["cat", "dog", "eel"])
    text = card(folder)
    result = json.loads((folder / "result.json").read_text())
    assert f"| few-shot recall | {100 * result['test']['few']:.1f} | {100 * result['validation']['few']:.1f} |" in text
    rows = [line for line in text.splitlines() if line.startswith(("| cat", "| dog", "| eel"))]
    recalls = result["test"]["per_class"]
    assert rows == [
        f"| eel | 3 | few | {100 * recalls[2]:.1f} |",
        f"| dog | 50 | medium | {100 * recalls[1]:.1f} |",
        f"| cat | 200 | many | {100 * recalls[0]:.1f} |",
    ]


def test_it_says_what_the_probabilities_assume(run, tmp_path):
    said = {
        asked: card(run(tmp_path / asked, config={"class_prior": [asked]}))
        for asked in ("auto", "training", "balanced", "loss", "a=1")
    }
    assert "assume the class frequencies of training, and decisions are made as if all classes" in said["auto"]
    assert "in training, and decisions are made as if classes were as frequent as in training" in said["training"]
    assert "assume equal class frequencies, and decisions are made as if all classes" in said["balanced"]
    assert "the class frequencies that the loss aims at" in said["loss"]
    assert (
        "the class frequencies that were asked for, and decisions are made under the class prior asked for"
        in said["a=1"]
    )


def test_hostile_names_stay_text(run, tmp_path, hostile_names):
    text = card(run(tmp_path / "a", names=hostile_names, source="`rm`", notes=["<img src=x>", "a|b"]))
    assert "<script>" not in text.replace("\\<", "")
    assert "\\<script\\>alert(1)" in text
    assert "a\\|b" in text
    assert "`rm`" not in text
    table = [line for line in text.splitlines() if line.endswith((" few | – |", " |")) and "\\<script" in line]
    assert len(table) == 1


def test_a_run_that_was_never_evaluated_says_so(run, tmp_path):
    folder = run(tmp_path / "a", test=None, validation=None)
    assert "It was not evaluated" in card(folder)


def test_each_run_of_a_comparison_has_one(comparison, tmp_path):
    folder = comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2, epochs=1)
    write_report(folder)
    cards = sorted(folder.glob("runs/*/model-card.md"))
    assert len(cards) == 4
    for path in cards:
        assert f"# {read_run(path.parent).result.name}" in path.read_text()


def test_of_many_classes_the_rarest_are_shown(run, tmp_path):
    text = card(run(tmp_path / "a", counts=list(range(160, 80, -1)), epochs=1))
    assert "(30 more in `result.json`)" in text
    assert "| class 79 |" in text
    assert "| class 0 |" not in text
