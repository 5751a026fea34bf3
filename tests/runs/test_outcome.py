"""What a run says of itself in the end."""

import json
from dataclasses import replace

import pytest

from imbsam.cli import main
from imbsam.runs.outcome import not_learnt
from made_records import made_metrics

TAIL = (False, False, True)


def made_metrics_of(recalls, tail):
    return replace(made_metrics(tail=tail), per_class=recalls)


@pytest.mark.parametrize(
    ("recalls", "tail", "told"),
    [
        ((0.8, 0.6, 0.3), 0.3, "its recall is 30.0 %, that of other classes 70.0 %"),
        ((0.8, 0.6, 0.35), 0.35, None),
        ((0.8, None, 0.1), 0.1, "that of other classes 80.0 %"),
        ((0.0, 0.0, 0.0), 0.0, None),
        ((0.8, 0.6, None), None, None),
    ],
)
def test_a_tail_with_less_than_half_of_the_others_recall_is_said_to_be_not_learnt(recalls, tail, told):
    said = not_learnt(made_metrics_of(recalls, tail), TAIL, {})
    assert len(said) == (told is not None)
    assert told is None or told in said[0]


@pytest.mark.parametrize(
    ("used", "told", "left_out"),
    [
        (
            {"augment": "cifar", "loss": "logit-adjustment", "sampler": "repeated"},
            "train longer (--epochs), augment more (--augment trivial), or start from a pretrained model (--finetune).",
            ["--loss", "--sampler"],
        ),
        ({"augment": "trivial", "loss": "cross-entropy", "sampler": "shuffle"}, "--sampler repeated", ["--augment"]),
        ({"augment": "none", "loss": "logit-adjustment"}, "yet: train longer (--epochs).", ["--finetune"]),
    ],
)
def test_what_is_in_use_already_is_not_advised(used, told, left_out):
    (said,) = not_learnt(made_metrics_of((0.8, 0.6, 0.1), 0.1), TAIL, used)
    assert told in said
    assert not any(option in said for option in left_out)


def test_without_held_out_data_nothing_is_said():
    assert not_learnt(None, TAIL, {}) == []
    assert not_learnt(made_metrics_of((0.8, 0.8, 0.0), None), TAIL, {}) == []


def test_a_run_says_so_in_its_result_its_report_and_on_the_terminal(tmp_path, capsys):
    words = ["--loss", "cross-entropy", "--class-prior", "training", "--epochs", "1", "--lr", "0.01", "--track", "none"]
    with pytest.raises(SystemExit, match="0"):
        main(["train", "digits", *words, "--out", str(tmp_path / "run")])
    notes = json.loads((tmp_path / "run" / "result.json").read_text())["notes"]
    (note,) = [note for note in notes if "not learned" in note]
    assert "--loss logit-adjustment" in note
    assert note in capsys.readouterr().out
    assert note in (tmp_path / "run" / "report.html").read_text()
