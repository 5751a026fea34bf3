import json
import signal
import subprocess
import sys
import time

import pytest

from imbsam.errors import OptionError, RunError
from imbsam.runs.folder import RunFolder
from imbsam.studies.tune import Range, Search, Tried, best_of, tune, usual_search
from imbsam.studies.workers import Workers

ONE = Workers(1)


def searched(folder, options, *ranges, **changes) -> list[Tried]:
    search = Search([Range.parse(text) for text in ranges], **{"trials": 3, **changes})
    return list(tune(folder, "digits", options(epochs=1), search, workers=ONE))


@pytest.mark.parametrize(
    ("text", "name", "values", "kind"),
    [
        ("rho=0.02:0.5", "rho", (0.02, 0.5), "log"),
        ("momentum=0.5:0.95", "momentum", (0.5, 0.95), "linear"),
        ("label-smoothing=0:0.2", "label_smoothing", (0.0, 0.2), "linear"),
        ("tail=auto|fewer-than=20", "tail", ("auto", "fewer-than=20"), "choice"),
        ("batch-size=32|64", "batch_size", (32, 64), "choice"),
        ("lr=1e-2|0.1", "lr", (0.01, 0.1), "choice"),
        ("lr", "lr", (0.01, 0.3), "log"),
    ],
)
def test_where_to_search_is_read(text, name, values, kind):
    assert Range.parse(text) == Range(name, values, kind)


@pytest.mark.parametrize("text", ["rho=", "rho=1", "rho=2:1", "rho=a:b", "rho=1:inf", "rho=1|1", "epochs", "rho=nan:2"])
def test_what_cannot_be_read_is_quoted(text):
    with pytest.raises(OptionError) as caught:
        Range.parse(text)
    assert str(caught.value).startswith(f"--search {text}: ")


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("sgd", ["lr", "weight_decay"]),
        ("sam", ["lr", "weight_decay", "rho"]),
        ("imbsam", ["lr", "weight_decay", "rho", "tail"]),
    ],
)
def test_what_a_method_has_is_searched(options, method, names):
    assert [each.name for each in usual_search(options(method=method))] == names


def test_the_best_trial_is_the_one_of_the_highest_mean_validation_score(tmp_path, options):
    tried = searched(tmp_path, options, "lr=0.1|1e-6", trials=4, seeds=(0, 1))
    for each in tried:
        runs = [RunFolder(tmp_path / f"runs/trial{each.number:04}-seed{seed}").read_result() for seed in (0, 1)]
        assert each.score == pytest.approx(sum(run.validation.balanced for run in runs) / 2, abs=0)
        assert {run.config["lr"] for run in runs} == {each.values["lr"]}
    assert best_of(tried).score == max(each.score for each in tried)
    assert best_of(tried).values == {"lr": 0.1}
    kept = json.loads((tmp_path / "tune.json").read_text())
    assert [trial["score"] for trial in kept["trials"]] == [each.score for each in tried]


def test_a_study_of_one_worker_repeats(tmp_path, options):
    first, second = (searched(tmp_path / name, options, "lr", "rho") for name in ("a", "b"))
    assert first == second
    assert len({each.values["lr"] for each in first}) == 3


def test_finished_trials_are_not_made_again_and_a_higher_number_adds(tmp_path, options):
    first = searched(tmp_path, options, "lr", trials=2)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    more = searched(tmp_path, options, "lr", trials=3)
    assert more[:2] == first
    assert len(more) == 3
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert more == searched(tmp_path / "whole", options, "lr", trials=3)


def test_a_trial_that_fails_is_told_and_the_others_go_on(tmp_path, options):
    tried = searched(tmp_path, options, "lr=0.1|1e30", trials=6)
    by_lr = {each.values["lr"]: each for each in tried}
    assert by_lr[0.1].score is not None
    assert by_lr[1e30].score is None
    assert "NaN or infinite" in by_lr[1e30].error
    assert searched(tmp_path, options, "lr=0.1|1e30", trials=6) == tried


def test_where_nothing_came_to_a_score_it_says_why():
    with pytest.raises(RunError, match="every trial failed; the first: no luck"):
        best_of([Tried(0, {}, None, "no luck")])


def test_two_folders_share_a_storage(tmp_path, options):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = searched(tmp_path / "a", options, "lr", trials=2, storage=storage)
    second = searched(tmp_path / "b", options, "lr", trials=3, storage=storage)
    assert [each.number for each in first] == [0, 1]
    assert [each.number for each in second] == [2]
    assert not (tmp_path / "b/runs/trial0000-seed0").exists()


def test_another_study_in_the_folder_is_refused(tmp_path, options):
    searched(tmp_path, options, "lr", trials=1)
    with pytest.raises(RunError, match="holds a study with another search"):
        searched(tmp_path, options, "rho", trials=1)


@pytest.mark.parametrize(
    ("ranges", "changes", "told"),
    [
        (["foo=1:2"], {}, "no option foo"),
        ([], {}, "different options, at least one"),
        (["lr", "lr=1:2"], {}, "different options"),
        (["lr"], {"trials": 0}, "--trials must be at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, options, ranges, changes, told):
    with pytest.raises(OptionError, match=told):
        searched(tmp_path / "t", options, *ranges, **changes)
    assert not (tmp_path / "t").exists()


def test_without_optuna_it_says_what_to_install(tmp_path, options, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match=r"pip install 'imbsam\[tune\]'"):
        searched(tmp_path, options, "lr")


@pytest.mark.slow
def test_killed_and_begun_again_it_ends_as_it_would_have(tmp_path):
    words = "tune digits --search lr rho --trials 4 --jobs 1 --threads 1 --epochs 3 --track none --quiet --out"

    def started(folder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "imbsam", *words.split(), folder], cwd=tmp_path)

    assert started("whole").wait() == 0
    killed = 0
    for trial in (0, 2):
        process = started("broken")
        mark = tmp_path / f"broken/runs/trial{trial:04}-seed0/metrics.jsonl"
        while not mark.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    assert started("broken").wait() == 0
    kept = {}
    for name in ("whole", "broken"):
        weights = sorted((tmp_path / name).glob("runs/*/best.safetensors"))
        trials = json.loads((tmp_path / name / "tune.json").read_text())["trials"]
        kept[name] = trials, [(path.parent.name, path.read_bytes()) for path in weights]
    assert len(kept["whole"][1]) == 4
    assert kept["broken"] == kept["whole"]
