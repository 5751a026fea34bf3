import json
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from imbsam.errors import OptionError, RunError
from imbsam.optim import METHODS as ALL_METHODS
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.studies.compare import Variant, compare, every_method, longest_first, plan_runs
from imbsam.studies.workers import Workers
from imbsam.training.methods import BLENDS, FAMILIES, passes_of


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("sgd", {"method": "sgd"}),
        ("imbsam:", {"method": "imbsam"}),
        ("imbsam:rho=0.1", {"method": "imbsam", "rho": 0.1}),
        ("imbsam:rho=1e-2", {"method": "imbsam", "rho": "1e-2"}),
        ("sam:rho=0.1,batch-statistics=batch", {"method": "sam", "rho": 0.1, "batch_statistics": "batch"}),
        ("imbsam:tail=classes=a,b,rho=0.5", {"method": "imbsam", "tail": "classes=a,b", "rho": 0.5}),
        ("imbsam:tail=fewer-than=20", {"method": "imbsam", "tail": "fewer-than=20"}),
        ("sgd:loss=vs,loss-options=[gamma=0.1,tau=1]", {"loss": "vs", "loss_options": ["gamma=0.1", "tau=1"]}),
        ("sgd:loss-options=[a=1,b=2],lr=3", {"loss_options": ["a=1", "b=2"], "lr": 3}),
        ("sgd:hidden=[8,4]", {"hidden": [8, 4]}),
    ],
)
def test_a_variant_is_read_with_its_options(label, values):
    variant = Variant.parse(label)
    assert variant.label == label
    assert variant.values == {"method": label.partition(":")[0], **values}


@pytest.mark.parametrize("label", ["sam:rho", "sam:=1", "sam:loss-options=[a", "sam:rho=0.1,lr=[,seed=1"])
def test_a_variant_that_cannot_be_read_is_quoted(label):
    with pytest.raises(OptionError, match="is not NAME=VALUE") as caught:
        Variant.parse(label)
    assert f"--methods {label}: " in str(caught.value)


@pytest.mark.parametrize("label", ["sam:rho=-1", "sam:rho=0.1,=2", "sam:rh=1", "foo", "", "sgd:hidden=wide"])
def test_a_variant_with_an_unusable_option_is_quoted(label, options):
    with pytest.raises(OptionError) as caught:
        plan_runs(Path("c"), options(), [Variant.parse("sgd"), Variant.parse(label)], [0])
    assert str(caught.value).startswith(f"--methods {label}: ")


@pytest.mark.parametrize(
    ("methods", "seeds", "told"),
    [
        (["sgd", "sgd"], [0], "different methods"),
        ([], [0], "different methods, at least one"),
        (["sgd"], [], "different seeds, at least one"),
        (["sgd"], [1, 1], "different seeds"),
    ],
)
def test_runs_are_planned_once_each(methods, seeds, told, options):
    with pytest.raises(OptionError, match=told):
        plan_runs(Path("c"), options(), [Variant.parse(label) for label in methods], seeds)


def test_runs_are_planned_seed_by_seed_in_folders_of_their_own(options):
    variants = [Variant.parse(label) for label in ("sgd", "imbsam:rho=0.1,tail=classes=a b/c")]
    runs = plan_runs(Path("c"), options(lr=0.5), variants, [3, 4])
    assert [str(run.folder) for run in runs] == [
        "c/runs/sgd-seed3",
        "c/runs/imbsam-rho=0.1,tail=classes=a-b-c-seed3",
        "c/runs/sgd-seed4",
        "c/runs/imbsam-rho=0.1,tail=classes=a-b-c-seed4",
    ]
    assert [run.options.training.seed for run in runs] == [3, 3, 4, 4]
    assert [run.options.training.lr for run in runs] == [0.5] * 4
    assert [run.options.method.rho for run in runs] == [None, 0.1, None, 0.1]
    assert runs[1].label == "imbsam:rho=0.1,tail=classes=a b/c"


METHODS = ("sgd", "imbsam:rho=0.1")


@pytest.fixture
def planned(options):
    """The runs of two methods over two seeds."""

    def plan(folder, *, methods=METHODS, seeds=(0, 1), **values):
        chosen = options(**{"epochs": 1, **values})
        return plan_runs(folder, chosen, [Variant.parse(label) for label in methods], seeds)

    return plan


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_every_method_gets_the_same_data_for_a_seed(tmp_path, planned):
    runs = planned(tmp_path)
    assert [outcome.error for outcome in compare(tmp_path, "digits", runs, workers=Workers(1))] == [None] * 4
    results = [RunFolder(run.folder).read_result() for run in runs]
    assert [(result.label, result.seed) for result in results] == [
        (label, seed) for seed in (0, 1) for label in METHODS
    ]
    counts = [result.counts for result in results]
    assert counts[0] == counts[1] != counts[2] == counts[3]
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert comparison["methods"] == list(METHODS)
    assert comparison["seeds"] == [0, 1]
    assert comparison["runs"] == [f"runs/{run.folder.name}" for run in runs]


def test_finished_runs_are_not_run_again(tmp_path, planned):
    list(compare(tmp_path, "digits", planned(tmp_path, seeds=[0]), workers=Workers(1)))
    before = contents(tmp_path / "runs")
    # Options without effect on the result may differ.
    outcomes = list(compare(tmp_path, "digits", planned(tmp_path, threads=2, device="cpu"), workers=Workers(1)))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    after = contents(tmp_path / "runs")
    assert {path: after[path] for path in before} == before
    assert len({path.parent for path in after}) == 4


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path, planned):
    whole, broken = (planned(tmp_path / name, methods=["sgd"], seeds=[0], epochs=3) for name in ("whole", "broken"))
    list(compare(tmp_path / "whole", "digits", whole, workers=Workers(1)))

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    folders = [RunFolder(runs[0].folder) for runs in (whole, broken)]
    with pytest.raises(KeyboardInterrupt):
        fit(folders[1], "digits", broken[0].options, label="sgd", on_epoch=interrupt)
    first_epochs = folders[1].metrics.read_text()
    list(compare(tmp_path / "broken", "digits", broken, workers=Workers(1)))
    assert folders[1].metrics.read_text().startswith(first_epochs)
    assert folders[0].weights.read_bytes() == folders[1].weights.read_bytes()
    assert folders[0].read_result().test == folders[1].read_result().test


@pytest.mark.parametrize(
    ("change", "told"),
    [({"epochs": 2}, "another epochs"), ({"rho": 0.3, "lr": 0.2, "methods": ["sgd"]}, "another rho, lr")],
)
def test_a_run_with_other_options_is_refused_and_kept(tmp_path, planned, change, told):
    list(compare(tmp_path, "digits", planned(tmp_path, methods=["sgd"], seeds=[0]), workers=Workers(1)))
    before = contents(tmp_path)
    with pytest.raises(RunError, match=f"sgd-seed0 holds a run with {told}"):
        list(compare(tmp_path, "digits", planned(tmp_path, **change), workers=Workers(1)))
    assert contents(tmp_path) == before


def test_a_run_on_another_source_is_refused(tmp_path, planned, pets):
    list(compare(tmp_path, "digits", planned(tmp_path, methods=["sgd"], seeds=[0]), workers=Workers(1)))
    with pytest.raises(RunError, match="another source"):
        list(compare(tmp_path, str(pets), planned(tmp_path, methods=["sgd"], seeds=[0]), workers=Workers(1)))


def test_one_failing_variant_does_not_keep_the_others_from_finishing(tmp_path, planned):
    runs = planned(tmp_path, methods=["sgd:lr=1e30", "sgd", "sam:loss=foo"], seeds=[0])
    outcomes = {outcome.run.label: outcome.error for outcome in compare(tmp_path, "digits", runs, workers=Workers(1))}
    assert outcomes["sgd"] is None
    assert "NaN or infinite" in outcomes["sgd:lr=1e30"]
    assert "no loss 'foo'" in outcomes["sam:loss=foo"]
    assert RunFolder(runs[1].folder).result.exists()


@pytest.fixture(scope="module")
def workers():
    """Processes, started at their first use."""
    yield
    get_reusable_executor().shutdown()


@pytest.mark.usefixtures("workers")
def test_processes_give_the_bits_that_one_process_gives(tmp_path, planned):
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        runs = planned(folder, methods=["imbsam", "sgd:lr=1e30"], seeds=[0])
        errors = {
            outcome.run.label: outcome.error for outcome in compare(folder, "digits", runs, workers=Workers(jobs))
        }
        assert errors["imbsam"] is None
        assert "NaN or infinite" in errors["sgd:lr=1e30"]
    weights = [(tmp_path / jobs / "runs/imbsam-seed0/best.safetensors").read_bytes() for jobs in ("1", "2")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_processes_are_refused(tmp_path, planned, jobs):
    with pytest.raises(OptionError, match=f"--jobs must be at least 1; got {jobs}"):
        list(compare(tmp_path / "c", "digits", planned(tmp_path / "c"), workers=Workers(jobs)))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["plain"], ["sgd", "adamw", "muon"]),
        (["one-pass"], ["sgd", "msam", "gnm"]),
        (["one-pass", "imbsam"], ["sgd", "msam", "gnm", "imbsam"]),
        (["gnm:rho=1", "gnm", "one-pass"], ["gnm:rho=1", "gnm", "sgd", "msam"]),
        (["one-pass", "sgd"], ["msam", "gnm", "sgd"]),
        (["sgd", "sgd"], ["sgd", "sgd"]),
        (["nosuch"], ["nosuch"]),
    ],
)
def test_a_family_s_name_stands_for_its_methods(labels, found):
    assert every_method(labels) == found


def test_the_families_hold_every_method():
    every = every_method(["all"])
    assert every[0] == "sgd"
    assert set(every) == {"sgd", *ALL_METHODS} - {"plain"}
    aware, other = every_method(["class-aware"]), every_method(["all-classes"])
    assert sorted([*aware, *other]) == sorted(every[1:])
    assert {"imbsam", "sam-a", "balanced-sam"} <= set(aware)
    assert {"sam", "msam", "le-sam"} <= set(other)


def test_a_pattern_of_names_may_begin_with_a_star():
    variant = Variant.parse("imbsam:perturb=*.weight,rho=0.1")
    assert variant.values == {"method": "imbsam", "perturb": "*.weight", "rho": 0.1}
    assert Variant.parse("sam:perturb=[norms,head.*]").values["perturb"] == ["norms", "head.*"]


def test_the_longest_runs_of_a_seed_begin_first(options):
    labels = ("sgd", "imbsam", "sam", "looksam", "adamw", "esam")
    begun = longest_first(plan_runs(Path("c"), options(), [Variant.parse(label) for label in labels], [7, 3]))
    seed = ["sam", "esam", "imbsam", "looksam", "sgd", "adamw"]
    assert [(run.label, run.options.training.seed) for run in begun] == [(each, n) for n in (7, 3) for each in seed]


def test_the_workers_get_the_longest_runs_first(tmp_path, planned, monkeypatch):
    given = []
    monkeypatch.setattr(
        "imbsam.studies.compare.make_runs", lambda source, runs, workers, store: given.extend(runs) or []
    )
    list(compare(tmp_path, "digits", planned(tmp_path, methods=("sgd", "sam"), seeds=(0,))))
    assert [run.label for run in given] == ["sam", "sgd"]


@pytest.mark.parametrize("name", [*FAMILIES["all"], "adamw", "muon", "auto", *BLENDS])
def test_every_method_is_about_as_long_as_others(name):
    assert passes_of(name) in (1, 2, 3)
