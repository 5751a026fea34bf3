"""Runs of blends and of scikit-learn's classifiers alone: kept, evaluated, predicted and exported as any run."""

import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from imbsam.config import DecisionOptions, Options
from imbsam.errors import DataError, OptionError, RunError
from imbsam.models.blend import Blend
from imbsam.priors import ClassPriors
from imbsam.report import write_report
from imbsam.runs.blends import check_blend
from imbsam.runs.cost import expected_cost
from imbsam.runs.export import export, sample
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.ranks import World
from imbsam.runs.sharpness import RunSharpness
from imbsam.runs.sharpness_options import SharpnessOptions
from imbsam.runs.trained import Trained
from imbsam.studies.compare import Variant, compare, plan_runs
from imbsam.studies.dry_run import dry_run
from imbsam.studies.tune import usual_search
from imbsam.training import setup
from imbsam.training.methods import BLENDS, MEMBERS
from tiny_data import table


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    """A trained blend of the usual members, with a small network."""
    folder = tmp_path_factory.mktemp("runs")
    source = str(table(folder / "parts.csv"))
    values = {"target": "kind", "method": "blend", "epochs": 3, "hidden": [8], "track": "none", "threads": 1}
    fit(RunFolder(folder / "blend"), source, Options().updated(values))
    return folder / "blend"


def test_a_blend_is_kept_without_code_and_scores_as_it_did(blend):
    trained = Trained.open(blend, device="cpu")
    assert isinstance(trained.model, Blend)
    assert trained.evaluate() == RunFolder(blend).read_result().test
    assert not list(blend.glob("*.pkl")) + list(blend.glob("*.joblib"))


def test_its_members_shares_and_scores_are_told(blend):
    result = RunFolder(blend).read_result()
    assert [member.name for member in result.members] == MEMBERS.split("+")
    assert sum(member.share for member in result.members) == pytest.approx(1)
    assert all(0 <= member.score <= 1 for member in result.members)
    assert (result.best_epoch, result.epochs, result.cost_ratio) == (None, 0, None)
    assert result.train_seconds > 0
    page = write_report(blend).read_text(encoding="utf-8")
    card = (blend / "model-card.md").read_text(encoding="utf-8")
    for member in result.members:
        share, score = (f"{100 * value:.1f}" for value in (member.share, member.score))
        assert re.search(rf'<th scope="row">{member.name}</th>.*>{share}</td>.*>{score}</td>', page)
        assert f"| {member.name} | {share} | {score} |" in card


def test_later_rows_are_predicted(blend, tmp_path):
    new = table(tmp_path / "new.csv", rows=60, seed=5)
    number, _ = Trained.open(blend, device="cpu").predict(str(new), tmp_path / "out.csv")
    assert number == 60
    found = pd.read_csv(tmp_path / "out.csv")["class"]
    assert balanced_accuracy_score(pd.read_csv(new)["kind"], found) > 0.6


def test_it_decides_otherwise_without_training_anew(blend):
    often = DecisionOptions(("good=0.1", "scratched=0.1", "broken=0.8"))
    usual = Trained.open(blend, device="cpu")
    told = usual.decided(often).evaluate().per_class
    before = usual.evaluate().per_class
    broken = usual.classes.index("broken")
    assert told[broken] >= before[broken]
    assert told != before


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_it_is_exported_with_its_trees(blend, tmp_path, suffix):
    onnxruntime = pytest.importorskip("onnxruntime") if suffix == ".onnx" else None
    trained = Trained.open(blend, device="cpu")
    out = tmp_path / f"blend{suffix}"
    assert export(trained, out) < 1e-5
    if onnxruntime is not None:
        rows = sample(trained, 5).numpy()
        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        assert session.run(None, {"samples": rows})[1].shape == (5, 3)


@pytest.mark.parametrize("method", BLENDS[1:])
def test_a_classifier_of_scikit_learn_alone_is_a_run(tmp_path, parts_csv, train, method):
    result = train(tmp_path / "run", parts_csv, target="kind", method=method)
    assert result.method == method
    assert result.test.balanced > 0.6
    assert Trained.open(tmp_path / "run", device="cpu").evaluate() == result.test


def test_the_same_seed_gives_the_same_run(tmp_path, parts_csv, train):
    first, again, other = (
        train(tmp_path / name, parts_csv, target="kind", method="forest", seed=seed)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.test == again.test
    assert first.test != other.test


def test_members_are_named_and_have_the_networks_options(tmp_path, parts_csv, train):
    named = {"method": "blend", "method_options": ["members=adamw+logistic"], "hidden": [5], "epochs": 2}
    train(tmp_path / "run", parts_csv, target="kind", **named)
    network, linear = Trained.open(tmp_path / "run", device="cpu").model.members
    assert network.model.mlp.hidden[0].out_features == 5
    assert linear.named == "linear"


def test_peers_are_compared_on_the_same_splits(tmp_path, parts_csv, options):
    asked = options(target="kind", epochs=2, hidden=[8])
    labels = ["imbsam", "blend:members=plain+forest", "boosting", "logistic"]
    runs = plan_runs(tmp_path, asked, [Variant.parse(label) for label in labels], [0, 1])
    assert [outcome.error for outcome in compare(tmp_path, str(parts_csv), runs)] == [None] * 8
    results = [RunFolder(run.folder).read_result() for run in runs]
    assert len({result.counts for result in results}) == 1
    assert len({result.test.samples for result in results}) == 1
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert all(label in page for label in labels)
    both = [f'<th scope="row">blend:members=plain+forest: {name}</th>' for name in ("plain", "forest")]
    assert all(row in page for row in both)
    assert "logistic: logistic" not in page


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"method": "blend", "method_options": ["members=imbsam+bosting"]}, "there is no member 'bosting'"),
        ({"method": "blend", "method_options": ["members=forest+forest"]}, "two members are called 'forest'"),
        ({"method": "blend", "method_options": ["trees=3"]}, "there is no option 'trees'"),
        ({"method": "forest", "method_options": ["members=forest"]}, "there is no option 'members'"),
        ({"method": "boosting", "loss": "focal"}, "--method boosting takes no --loss"),
        ({"method": "blend", "reweight_from": 0.5}, "--method blend takes no --reweight-from"),
        ({"method": "blend", "at_least": ["recall:odd=0.9"]}, "odd"),
        ({"method": "bosting"}, "there is no method 'bosting'.*boosting, forest, logistic"),
    ],
)
def test_options_that_do_not_suit_are_refused_before_anything_is_written(tmp_path, parts_csv, train, values, match):
    with pytest.raises(OptionError, match=match):
        train(tmp_path / "run", parts_csv, target="kind", **values)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_images_are_refused(tmp_path, train):
    with pytest.raises(OptionError, match="--method forest is for tables, but digits contains images"):
        train(tmp_path / "run", "digits", method="forest")


def test_several_processes_are_refused(tmp_path, parts_csv, options):
    class Two(World):
        def from_first(self, work):
            return work()

    with pytest.raises(OptionError, match="in one process"):
        fit(RunFolder(tmp_path), str(parts_csv), options(target="kind", method="forest"), world=Two(size=2))


def test_what_looks_at_steps_of_a_network_refuses_it(blend, parts_csv, options):
    asked = options(target="kind", method="blend")
    plans = plan_runs(blend, asked, [Variant.parse("forest")], [0])
    for look in (
        lambda: expected_cost(str(parts_csv), asked),
        lambda: dry_run(str(parts_csv), plans),
        lambda: usual_search(asked),
        lambda: RunSharpness(blend, SharpnessOptions(), device="cpu"),
    ):
        with pytest.raises(OptionError, match="steps of a network"):
            look()


def test_weights_that_are_no_blend_are_told(blend, tmp_path):
    folder = RunFolder(blend)
    held = folder.weights.read_bytes()
    try:
        folder.write_weights({"weights": torch.ones(1)}, 0)
        with pytest.raises(RunError, match="does not fit the run's method"):
            Trained.open(blend, device="cpu")
    finally:
        folder.weights.write_bytes(held)


def test_a_class_without_a_training_row_is_named(parts_csv, options):
    problem = setup.load_problem(str(parts_csv), options(target="kind", method="forest"))
    with pytest.raises(DataError, match="the class 'broken' has no training row"):
        check_blend(replace(problem, priors=ClassPriors.from_counts([0, 50, 9])))


@pytest.mark.parametrize("values", [{"anneal_from": 0.5}, {"perturb": ["norms"]}])
def test_what_is_of_a_network_s_steps_is_refused(values, parts_csv, options):
    problem = setup.load_problem(str(parts_csv), options(target="kind", method="blend", **values))
    with pytest.raises(OptionError, match=r"--method blend takes no --(anneal-from|perturb)"):
        check_blend(problem)
