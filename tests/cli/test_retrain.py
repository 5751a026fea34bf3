"""``imbsam retrain``: a second stage on a run, beside it."""

import json

import pytest

from imbsam.runs import retraining


@pytest.mark.parametrize("how", ["crt", "tau-norm", "smoothed"])
def test_a_second_stage_is_a_run_that_other_commands_take(imbsam, quick, how):
    assert imbsam("train", "digits", *quick, "--method", "imbsam", "--out", "runs/a", "--quiet").code == 0
    ran = imbsam("retrain", "runs/a", "--how", how, "--quiet")
    assert ran.code == 0
    assert f"imbsam, {how} on digits, test data" in ran.out
    assert "second stage: the classifier of the run a was retrained by" in ran.out
    new = f"runs/a-{how}"
    assert imbsam("evaluate", new).code == 0
    assert imbsam("predict", new, "digits", "--out", "p.csv").code == 0
    assert imbsam("report", new).code == 0
    assert imbsam("export", new, "--out", "m.pt2").code == 0
    again = json.loads(imbsam("retrain", "runs/a", "--how", how, "--json", "--quiet").out)
    assert again["folder"].endswith(f"runs/a-{how}-2")
    assert again["second_stage"]["how"] == how


def test_what_cannot_be_retrained_is_refused_in_a_sentence(fails, imbsam, run, parts_csv, quick):
    assert imbsam("train", parts_csv, "--target", "kind", *quick, "--out", "blend", "--quiet").code == 0
    for words, told in (
        (("nowhere",), "nowhere is not a run's folder"),
        (("blend",), "--method blend, which has no last layer to retrain"),
        ((run, "--how", "tau-norm", "--epochs", "3"), "--epochs is of crt and smoothed"),
        ((run, "--out", run), "exists already. Choose another --out"),
    ):
        said = fails("retrain", *words)
        assert told in said
        assert "\n" not in said


def test_an_interruption_says_how_to_begin_anew(imbsam, run, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "outcome", stop)
    ran = imbsam("retrain", run, "--out", "new", "--epochs", 1)
    assert ran.code == 130
    assert "start the second stage again with:\n  imbsam retrain" in ran.err
    assert list(tmp_path.iterdir()) == []
