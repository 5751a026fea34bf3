import re
from pathlib import Path

from imbsam.cli import show
from imbsam.optim import METHODS
from imbsam.runs.onset import UNPERTURBED
from made_records import made_metrics, made_result


def result(**changes):
    scores = made_metrics(overall=0.5, balanced=0.25, many=None, medium=1.0, few=0.0, tail=0.4, macro_f1=0.125)
    return made_result("imbsam", 0, **{"test": scores, "source": "my[red]data", "best_epoch": 7, **changes})


def test_a_result_shows_the_test_scores(capsys):
    show.result(result())
    captured = capsys.readouterr()
    assert "imbsam on my[red]data, test data, epoch 7" in captured.out
    assert re.search(r"50\.0 +25\.0 +- +100\.0 +0\.0 +40\.0 +12\.5", captured.out)


def test_a_result_says_that_the_weights_were_never_perturbed(capsys):
    note = f"{UNPERTURBED}: the tail was slow."
    show.result(result(notes=("of the data", note)))
    out = capsys.readouterr().out
    assert note in out
    assert "of the data" not in out


def test_without_test_data_the_validation_scores_are_shown(capsys):
    show.result(result(test=None, validation=result().test))
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "validation data" in captured.out


def test_without_any_data_to_measure_on_it_says_so(capsys):
    show.result(result(test=None))
    assert capsys.readouterr().out == "no test or validation data: nothing was evaluated.\n"


def test_predictions_are_summed_up_most_frequent_class_first(capsys):
    show.predictions(Path("p[1].csv"), ("cat", "[b]dog", "eel"), (2, 4, 0))
    assert capsys.readouterr().out == "6 predictions: p[1].csv\n  [b]dog 4, cat 2\n"


def test_a_warning_is_one_sentence(capsys):
    show.warning(UserWarning("rows were skipped."), UserWarning, "secret/place.py", 3)
    assert capsys.readouterr().err == "warning: rows were skipped.\n"


def test_methods_are_shown_by_family_and_passes_each_with_when_to_take_it(capsys):
    show.methods()
    shown = capsys.readouterr().out
    titles = [line for line in shown.splitlines() if line.startswith(("plain:", "all classes", "class-aware"))]
    assert titles == [
        "plain: the base optimizers, the controls",
        "all classes, one pass",
        "all classes, one pass and some rows again",
        "all classes, two passes or more",
        "class-aware, one pass and some rows again",
        "class-aware, two passes or more",
    ]
    for name, method in METHODS.items():
        assert name == "plain" or re.search(
            rf"^{name} +{re.escape(method.cost)} .*\n +when: {re.escape(method.take)}$", shown, re.M
        )
    assert "families, usable in --methods of imbsam compare: all, plain, all-classes, class-aware, one-pass." in shown
    assert max(map(len, shown.splitlines())) <= 120
