"""How classes are decided on, from the command line: in training, and later of a run that is there."""

import csv
import json

import pytest


def test_a_run_says_how_it_decided_and_what_that_costs(imbsam, quick, tmp_path):
    ran = imbsam("train", "digits", *quick, "--out", "run", "--quiet", "--at-least", "recall:6=0.9")
    assert "Decided as if all classes were equally frequent" in ran.out
    assert "6, at least recall 0.9: on the held-out rows recall" in ran.out
    page, card = ((tmp_path / "run" / name).read_text() for name in ("report.html", "model-card.md"))
    assert "as if all classes were equally frequent" in page
    assert "as if all classes were equally frequent" in card
    assert "6, at least recall 0.9" in page


def test_a_run_that_decides_for_the_likeliest_class_says_nothing(imbsam, quick):
    ran = imbsam("train", "digits", *quick, "--out", "run", "--quiet", "--class-prior", "training")
    assert "Decided" not in ran.out


def test_evaluate_decides_as_asked(imbsam, run):
    found = {}
    for asked in ("auto", "training", "balanced"):
        found[asked] = json.loads(imbsam("evaluate", run, "--class-prior", asked, "--json").out)
    assert found["auto"]["few"] == found["balanced"]["few"] > found["training"]["few"]
    assert found["auto"]["log_loss"] == found["balanced"]["log_loss"] == found["training"]["log_loss"]
    assert json.loads(imbsam("evaluate", run, "--json").out) == found["auto"]


def test_predictions_are_under_the_frequencies_of_deployment(imbsam, run, tmp_path):
    rows = {}
    deployed = [f"{digit}={99 if digit == 9 else 1}" for digit in range(10)]
    for name, words in (("usual", ["training"]), ("there", deployed)):
        assert imbsam("predict", run, "digits", "--out", name, "--all-probabilities", "--class-prior", *words).code == 0
        rows[name] = list(csv.DictReader((tmp_path / name).read_text().splitlines()))
    for usual, there in zip(rows["usual"], rows["there"], strict=True):
        assert float(there["9"]) > float(usual["9"])
        every = [float(there[str(digit)]) for digit in range(10)]
        assert float(there["probability"]) == max(every)
        assert sum(every) == pytest.approx(1, abs=1e-4)


def test_a_wanted_recall_raises_how_often_a_class_is_called(imbsam, run):
    ran = {}
    for name, words in {"usual": (), "found": ("--at-least", "recall:4=1"), "dear": ("--cost", "4=50")}.items():
        ran[name] = json.loads(imbsam("predict", run, "digits", "--out", "p.csv", "--json", *words).out)
    called = {name: found["classes"][4]["predicted"] for name, found in ran.items()}
    assert called["found"] >= called["usual"]
    assert called["dear"] > called["usual"]
    assert ran["usual"]["prices"] == ran["dear"]["prices"] == []
    (price,) = ran["found"]["prices"]
    assert price.startswith("4, at least recall 1: on the held-out rows recall 100.0 %")


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--class-prior", "uniform"), "--class-prior uniform: give auto, training, balanced, loss"),
        (("--class-prior", "3=1"), "the class '0' has no frequency"),
        (("--at-least", "recall:x=0.5"), "there is no class 'x'"),
        (("--cost", "3=0"), "--cost 3=0: a cost must be above 0"),
    ],
)
def test_decisions_that_cannot_be_write_nothing(fails, run, tmp_path, command, words, message):
    source = ("digits", "--out", "p.csv") if command == "predict" else ("--out", "m.pt2") if command == "export" else ()
    assert message in fails(command, run, *source, *words)
    assert list(tmp_path.iterdir()) == []


def test_wanting_what_validation_data_cannot_tell_is_refused_before_training(fails, quick, tmp_path):
    words = ("--at-least", "recall:3=0.9", "--validation-fraction", 0)
    assert "which have no sample of this class" in fails("train", "digits", *quick, "--out", "run", *words)
    assert list(tmp_path.iterdir()) == []
