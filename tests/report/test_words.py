import json
from dataclasses import asdict, replace

import pytest

from imbsam.report import Estimate, answer, decided, summarise
from imbsam.report.files import read_run
from imbsam.report.words import how, plus_minus, points, short
from imbsam.runs.onset import UNPERTURBED
from made_records import made_metrics, made_result


def result(label, seed, few, overall=0.8):
    return made_result(label, seed, made_metrics(overall, few=few))


def test_the_answer_gives_both_scores_the_difference_and_its_paired_interval():
    runs = [result("sgd", 0, 0.60), result("sgd", 1, 0.70), result("imbsam", 0, 0.70), result("imbsam", 1, 0.81)]
    first, second = answer(summarise(runs))
    # Gaps of 10 and 11 points: mean 10.5, t(0.975, 1) * 0.7071 / sqrt(2) = 12.706 / 2 = 6.35.
    assert first == (
        "few-shot recall: imbsam 75.5\u00a0% against 65.0\u00a0% for sgd, +10.5 points "
        "(95 % interval +4.1 to +16.9, paired over 2 seeds)"
    )
    assert second.startswith("overall accuracy: imbsam 80.0\u00a0% against 80.0\u00a0% for sgd, +0.0 points")
    assert second.endswith("zero lies inside)")


def test_the_answer_says_that_one_seed_has_no_interval():
    sentence = answer(summarise([result("sgd", 0, 0.60), result("sam", 0, 0.55)]))[0]
    assert sentence.endswith("−5.0 points (one seed, so no interval)")


def test_the_answer_of_one_method_is_its_scores():
    assert answer(summarise([result("sgd", 0, 0.6)])) == [
        "sgd: few-shot recall 60.0\u00a0%, balanced accuracy 80.0\u00a0%, overall accuracy 80.0\u00a0%"
    ]


def test_the_answer_says_which_methods_never_perturbed_the_weights_and_how_often():
    waited = [replace(result("imbsam", seed, 0.6), notes=("a", f"{UNPERTURBED}: so it is.")) for seed in (0, 1)]
    runs = [*(result("sgd", seed, 0.6) for seed in range(3)), *waited, result("imbsam", 2, 0.7)]
    said = (
        "imbsam never perturbed the weights in 2 seeds, because the tail was not learned (--sharp-recall); "
        "there it is its base optimizer"
    )
    assert answer(summarise(runs))[-1] == said
    assert answer(summarise(waited))[1:] == [said]
    assert not any("never" in sentence for sentence in answer(summarise([runs[0], runs[-1]])))


def test_the_answer_owns_up_to_a_baseline_that_did_not_finish():
    sentence = answer(summarise([result("sam", 0, 0.55)], labels=["sgd", "sam"]))[0]
    assert sentence.startswith("sam: few-shot recall 55.0\u00a0%")
    assert "no difference to report" in sentence


def test_the_answer_owns_up_to_a_run_that_was_not_evaluated():
    assert answer(summarise([made_result("sgd", 0)])) == ["sgd: no evaluated run"]


def test_the_answer_stays_short_for_a_sweep_and_says_that_its_winner_was_picked():
    runs = [result("sgd", 0, 0.5), *(result(f"rho={i}", 0, 0.5 + i / 100) for i in range(10))]
    sentences = answer(summarise(runs))
    assert len(sentences) == 3
    assert sentences[-1] == "rho=9 was chosen as the highest of 10 on these scores, so its score is optimistic"


@pytest.mark.parametrize(
    ("difference", "shown"), [(0.075, "+7.5"), (-0.04, "−4.0"), (-0.0001, "+0.0"), (0.0, "+0.0"), (1.0, "+100.0")]
)
def test_points_have_a_sign_and_zero_has_no_minus(difference, shown):
    assert points(difference) == shown


def test_an_estimate_of_one_seed_is_shown_without_a_plus_minus():
    assert plus_minus(Estimate(0.725, None, 1)) == "72.5"
    assert plus_minus(Estimate(0.725, 0.031, 3)) == "72.5 ± 3.1"
    assert plus_minus(Estimate(-0.02, 0.01, 3), signed=True) == "−2.0 ± 1.0"


def test_short_cuts_long_names_alone_and_keeps_the_limit():
    assert short("x" * 24) == "x" * 24
    assert short("x" * 25) == "x" * 23 + "…"


def test_a_decision_is_said_with_what_it_gains_and_costs(run, tmp_path):
    scores = json.loads((run(tmp_path / "a", label="sgd") / "result.json").read_text())["test"]
    result = read_run(run(tmp_path / "b", config={"class_prior": ["auto"]}, likeliest=scores)).result
    (said,) = decided(result)
    few, other = (f"{100 * share:.1f}\u00a0%" for share in (result.test.few, scores["few"]))
    assert said.startswith(
        f"Decided as if all classes were equally frequent: few-shot recall {few} (by the likeliest class in training "
        f"frequencies {other}), medium-shot recall "
    )
    assert decided(read_run(run(tmp_path / "c", likeliest=json.loads(json.dumps(asdict(result.test))))).result) == []
    assert decided(read_run(run(tmp_path / "d")).result) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"class_prior": ["training"]}, "as if classes were as frequent as in training"),
        ({"class_prior": ["loss"]}, "under the class prior that the loss aims at"),
        ({"class_prior": ["a=1", "b=2"]}, "under the class prior asked for"),
        ({"class_prior": ["auto"], "cost": ["a=2"]}, "by least expected cost"),
    ],
)
def test_how_a_run_decides(run, tmp_path, config, said):
    assert how(read_run(run(tmp_path / "a", config=config)).result) == said
