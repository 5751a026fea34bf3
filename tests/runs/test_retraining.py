"""A second stage on a run: what it changes, what it leaves, what it refuses."""

from pathlib import Path

import pytest
import torch

from imbsam.config import Options
from imbsam.errors import ImbsamError, ModelError, OptionError, RunError
from imbsam.report import write_report
from imbsam.runs import retraining
from imbsam.runs.export import export
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.retraining import retrain
from imbsam.runs.retraining_options import RetrainingOptions
from imbsam.runs.sharpness import RunSharpness
from imbsam.runs.sharpness_options import SharpnessOptions
from imbsam.runs.trained import Trained
from tiny_data import image_folder

HOWS = ("crt", "tau-norm", "smoothed")
QUICK = {"epochs": 2, "track": "none", "threads": 1, "method": "imbsam"}


def options(how, **values):
    return RetrainingOptions(how, **values)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    fit(RunFolder(folder), "digits", Options().updated(QUICK))
    return folder


@pytest.fixture(scope="module", params=HOWS)
def second(request, first) -> Path:
    before = bytes_of(first)
    out = first.with_name(f"first-{request.param}")
    retrain(first, out, options(request.param))
    assert bytes_of(first) == before
    return out


def test_only_the_classifier_is_another(first, second):
    old, new = RunFolder(first).read_weights(), RunFolder(second).read_weights()
    assert old.keys() == new.keys()
    for name in old:
        assert torch.equal(old[name], new[name]) == (not name.startswith("classifier.")), name


def test_the_folder_is_that_of_a_run(first, second):
    run, result = RunFolder(second), RunFolder(second).read_result()
    stage = run.read_second_stage()
    assert result.second_stage == stage
    assert (stage.of, f"first-{stage.how}") == ("first", second.name)
    assert (result.name, result.label) == (second.name, f"imbsam, {stage.how}")
    assert any("the classifier of the run first was retrained" in note for note in result.notes)
    assert run.read_config() == RunFolder(first).read_config()
    assert result.config == RunFolder(first).read_result().config
    assert len(run.epochs()) == {"crt": 10, "tau-norm": 0, "smoothed": 20}[stage.how] == result.epochs
    assert result.read.calibration.evidence != 1
    assert [path.name for path in second.parent.iterdir() if path.name.startswith(".")] == []


def test_it_is_evaluated_predicted_with_reported_and_exported(second, tmp_path):
    trained, result = Trained.open(second), RunFolder(second).read_result()
    found = trained.evaluate()
    assert found.per_class == result.test.per_class
    assert found.log_loss == pytest.approx(result.test.log_loss)
    assert trained.predict("digits", tmp_path / "p.csv")[0] == result.test.samples
    assert export(trained, tmp_path / "m.pt2") < 1e-4
    assert f"{result.second_stage.how}, of first" in write_report(second).read_text()
    card = (second / "model-card.md").read_text()
    assert f"imbsam retrain ANOTHER --how {result.second_stage.how}" in card
    assert "those of epoch" not in card


def test_the_rare_classes_gain_over_the_first_stage_as_its_outputs_come(tmp_path):
    plain = {**QUICK, "epochs": 20, "loss": "cross-entropy", "class_prior": "loss", "method": "sgd"}
    before = fit(RunFolder(tmp_path / "first"), "digits", Options().updated(plain))
    for how in HOWS[:2]:
        found = retrain(tmp_path / "first", tmp_path / how, options(how))
        assert found.test.few > before.test.few


def test_the_same_seed_gives_the_same_bytes(first, second, tmp_path):
    how = RunFolder(second).read_second_stage().how
    torch.manual_seed(77)
    retrain(first, tmp_path / "again", options(how))
    assert RunFolder(tmp_path / "again").weights.read_bytes() == RunFolder(second).weights.read_bytes()


def test_tau_is_taken_as_given(first, tmp_path):
    retrain(first, tmp_path / "tau", options("tau-norm", tau=0.5))
    old, new = RunFolder(first).read_weights(), RunFolder(tmp_path / "tau").read_weights()
    lengths = old["classifier.weight"].norm(dim=1, keepdim=True)
    torch.testing.assert_close(new["classifier.weight"], old["classifier.weight"] / lengths**0.5)
    assert RunFolder(tmp_path / "tau").read_second_stage().tau == 0.5


def test_epochs_and_rate_are_taken_as_given(first, tmp_path):
    retrain(first, tmp_path / "crt", options("crt", epochs=3, lr=0.02))
    epochs = RunFolder(tmp_path / "crt").epochs()
    assert len(epochs) == 3
    assert epochs[0].lr == 0.02 > epochs[1].lr > epochs[2].lr > 0


def test_a_convolutional_network_with_batchnorm_and_augmentation(tmp_path, train):
    pets = image_folder(tmp_path / "pets")
    train(tmp_path / "first", pets, model="resnet20", width=0.25, batch_size=16, augment="cifar", average="ema")
    for how in HOWS:
        retrain(tmp_path / "first", tmp_path / how, options(how, epochs=None if how == "tau-norm" else 2))
        old, new = RunFolder(tmp_path / "first").read_weights(), RunFolder(tmp_path / how).read_weights()
        assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith("classifier."))
    write_report(tmp_path / "crt")
    assert "Those are averaged over its steps" in (tmp_path / "crt" / "model-card.md").read_text()


def test_a_cosine_classifier_is_retrained_and_has_no_tau(tmp_path, train):
    train(tmp_path / "first", loss="ldam")
    found = retrain(tmp_path / "first", tmp_path / "crt", options("crt"))
    assert found.test.balanced > 0.3
    with pytest.raises(ModelError, match="no effect on a cosine classifier"):
        retrain(tmp_path / "first", tmp_path / "tau", options("tau-norm"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crt", "first"]


def test_without_validation_data_tau_must_be_given(tmp_path, train):
    train(tmp_path / "first", validation_fraction=0.0)
    with pytest.raises(OptionError, match="give a value, for example --tau 1"):
        retrain(tmp_path / "first", tmp_path / "tau", options("tau-norm"))
    for how, values in (("tau-norm", {"tau": 1.0}), ("smoothed", {"epochs": 1}), ("crt", {"epochs": 1})):
        assert retrain(tmp_path / "first", tmp_path / how, options(how, **values)).test is not None


@pytest.mark.parametrize("where", ["training", "writing"])
def test_what_is_interrupted_leaves_nothing_and_begins_anew(first, tmp_path, monkeypatch, where):
    before, straight = bytes_of(first), tmp_path / "straight"
    retrain(first, straight, options("crt", epochs=2))

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "writing":
            patch.setattr(retraining, "outcome", stop)
        with pytest.raises(KeyboardInterrupt):
            retrain(first, tmp_path / "out", options("crt", epochs=2), on_epoch=stop if where == "training" else None)
    assert bytes_of(first) == before
    assert [path.name for path in tmp_path.iterdir()] == ["straight"]
    # As a process leaves it that was killed: what stands aside is begun anew.
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "metrics.jsonl").write_text('{"half a li')
    (tmp_path / ".out.unfinished" / "best.safetensors").write_text("half")
    retrain(first, tmp_path / "out", options("crt", epochs=2))
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == (straight / "best.safetensors").read_bytes()
    assert len(RunFolder(tmp_path / "out").epochs()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "straight"]


def assert_refused(path: Path, out: Path, error: type[ImbsamError], told: str) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(error, match=told) as caught:
        retrain(path, out, options("crt"))
    assert "\n" not in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_a_table_and_a_blend_are_refused(tmp_path, train, parts_csv):
    train(tmp_path / "network", parts_csv, target="kind")
    assert_refused(tmp_path / "network", tmp_path / "out", OptionError, "imbsam retrain is for images")
    train(tmp_path / "trees", parts_csv, target="kind", method="logistic")
    assert_refused(tmp_path / "trees", tmp_path / "out", OptionError, "--method logistic, which has no last layer")


def test_a_run_without_weights_and_one_that_is_not_finished_are_refused(tmp_path, first):
    run = tmp_path / "run"
    run.mkdir()
    assert_refused(run, tmp_path / "out", RunError, "is not a run's folder")
    for name in ("config.yaml", "data.json"):
        (run / name).write_bytes((first / name).read_bytes())
    assert_refused(run, tmp_path / "out", RunError, "has no weights yet")
    (run / "best.safetensors").write_bytes((first / "best.safetensors").read_bytes())
    assert_refused(run, tmp_path / "out", RunError, "is not finished. Resume it: imbsam train --resume")


def test_nothing_is_replaced(first, second):
    assert_refused(first, second, RunError, "exists already. Choose another --out")
    assert_refused(first, first, RunError, "exists already. Choose another --out")


def test_a_second_stage_has_none_itself_and_no_sharpness_of_its_own(second, tmp_path):
    assert_refused(second, tmp_path / "out", OptionError, "is a second stage itself: retrain its first stage, first")
    with pytest.raises(OptionError, match="is a second stage: measure the run first"):
        RunSharpness(second, SharpnessOptions())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"how": "tau-norm", "epochs": 3}, "--epochs is of crt and smoothed"),
        ({"how": "tau-norm", "lr": 0.1}, "--lr is of crt and smoothed"),
        ({"how": "crt", "tau": 1.0}, "--tau is of tau-norm"),
        ({"how": "smoothed", "tau": 1.0}, "--tau is of tau-norm"),
        ({"how": "tau-norm", "tau": -1.0}, "--tau: input should be greater than or equal to 0"),
        ({"how": "crt", "epochs": 0}, "--epochs: input should be greater than or equal to 1"),
    ],
)
def test_an_option_without_effect_or_out_of_range_is_named(values, told):
    with pytest.raises(OptionError, match=told):
        RetrainingOptions(**values).check()


def test_without_its_record_the_weights_are_not_read_as_those_of_a_first_stage(first, tmp_path):
    retrain(first, tmp_path / "tau", options("tau-norm"))
    (tmp_path / "tau" / "second-stage.json").unlink()
    with pytest.raises(RunError, match="was not written beside"):
        Trained.open(tmp_path / "tau")


def test_training_over_a_second_stage_leaves_nothing_of_it(first, tmp_path):
    retrain(first, tmp_path / "run", options("tau-norm"))
    fit(RunFolder(tmp_path / "run"), "digits", Options().updated(QUICK), overwrite=True)
    assert not (tmp_path / "run" / "second-stage.json").exists()
    assert RunFolder(tmp_path / "run").read_result().second_stage is None
