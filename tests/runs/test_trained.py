import csv
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from imbsam import data
from imbsam.config import DecisionOptions, Options
from imbsam.decisions import UNCALIBRATED
from imbsam.errors import DataError, DataWarning, OptionError, RunError
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained
from tiny_data import image_folder, table


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A trained run on digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    fit(RunFolder(folder), "digits", Options().updated({"epochs": 3, "track": "none"}))
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_scores_its_own_test_data_as_training_did(digits):
    measured = Trained.open(digits).evaluate()
    assert measured == RunFolder(digits).read_result().test


def test_digits_as_a_source_are_those_held_out(digits):
    trained = Trained.open(digits)
    assert trained.evaluate("digits") == trained.evaluate()


def test_another_labelled_folder_is_scored(tmp_path, train):
    train(tmp_path / "run", image_folder(tmp_path / "pets", seed=1), model="mlp", epochs=8, augment="none")
    others = image_folder(tmp_path / "others", {"dog": 5, "cat": 3}, seed=2)
    measured = Trained.open(tmp_path / "run").evaluate(str(others))
    assert measured.samples == 8
    assert measured.overall > 0.6
    assert measured.per_class[2] is None


def test_another_labelled_table_is_scored(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind", epochs=8, batch_size=32)
    measured = Trained.open(tmp_path / "run").evaluate(str(table(tmp_path / "more.csv", rows=80, seed=7)))
    assert measured.samples == 80
    assert measured.overall > 0.6


def test_a_source_without_classes_cannot_be_scored(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind")
    unlabelled = table(tmp_path / "new.csv", rows=10, target=False)
    with pytest.raises(DataError, match=r"new\.csv has no classes to compare with; .* imbsam predict"):
        Trained.open(tmp_path / "run").evaluate(str(unlabelled))


def test_a_run_without_test_data_says_so(tmp_path, train):
    train(tmp_path / "run", test_fraction=0.0)
    with pytest.raises(DataError, match="imbsam evaluate RUN SOURCE"):
        Trained.open(tmp_path / "run").evaluate()


def test_test_data_that_changed_since_training_are_not_scored(tmp_path, train):
    source = table(tmp_path / "parts.csv", seed=1)
    train(tmp_path / "run", source, target="kind")
    table(source, seed=2)
    with pytest.raises(DataError, match="has changed since the run was started"):
        Trained.open(tmp_path / "run").evaluate()


def test_predictions_name_each_row_its_class_and_probability(digits, tmp_path):
    trained = Trained.open(digits)
    number, per_class = trained.predict("digits", tmp_path / "p.csv")
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["name", "class", "probability"]
    assert number == len(rows) == 539
    assert [sum(row["class"] == name for row in rows) for name in trained.classes] == per_class.tolist()
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_all_probabilities_sum_to_one_and_the_class_has_the_highest(digits, tmp_path):
    trained = Trained.open(digits)
    trained.predict("digits", tmp_path / "p.csv", all_probabilities=True)
    for row in rows_of(tmp_path / "p.csv"):
        every = {name: float(row[name]) for name in trained.classes}
        assert sum(every.values()) == pytest.approx(1, abs=1e-4)
        assert every[row["class"]] == float(row["probability"])


@pytest.mark.parametrize("asked", ["training", "balanced"])
def test_under_a_named_prior_the_class_has_the_highest_probability(digits, tmp_path, asked):
    Trained.open(digits).decided(DecisionOptions((asked,))).predict(
        "digits", tmp_path / "p.csv", all_probabilities=True
    )
    for row in rows_of(tmp_path / "p.csv"):
        assert float(row[row["class"]]) == max(float(row[str(digit)]) for digit in range(10))


def test_images_without_classes_are_predicted_by_file_name(tmp_path, train):
    train(tmp_path / "run", image_folder(tmp_path / "pets"), model="mlp", epochs=8, augment="none")
    new = image_folder(tmp_path / "new", {"dog": 4}, seed=5) / "dog"
    Trained.open(tmp_path / "run").predict(str(new), tmp_path / "p.csv")
    rows = rows_of(tmp_path / "p.csv")
    assert [row["name"] for row in rows] == [str(path) for path in sorted(new.iterdir())]
    assert sum(row["class"] == "dog" for row in rows) >= 3


def test_rows_without_a_target_are_predicted_by_number(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind", epochs=8, batch_size=32)
    Trained.open(tmp_path / "run").predict(str(table(tmp_path / "n.csv", rows=30, target=False)), tmp_path / "p.csv")
    rows = rows_of(tmp_path / "p.csv")
    assert [row["name"] for row in rows] == [str(number) for number in range(1, 31)]
    truth = pd.read_csv(table(tmp_path / "n2.csv", rows=30))["kind"]
    assert sum(row["class"] == name for row, name in zip(rows, truth, strict=True)) > 20


def test_a_label_in_the_source_does_not_change_a_prediction(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind")
    trained = Trained.open(tmp_path / "run")
    for target in (True, False):
        trained.predict(str(table(tmp_path / f"{target}.csv", rows=20, target=target)), tmp_path / f"p{target}.csv")
    assert (tmp_path / "pTrue.csv").read_bytes() == (tmp_path / "pFalse.csv").read_bytes()


def test_predicting_the_training_data_warns(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind")
    with pytest.warns(DataWarning, match="these are the data that the model was trained on"):
        Trained.open(tmp_path / "run").predict(str(parts_csv), tmp_path / "p.csv")


def test_predictions_never_replace_their_source(tmp_path, parts_csv, train):
    train(tmp_path / "run", parts_csv, target="kind")
    rows = table(tmp_path / "rows.csv", rows=10)
    before = rows.read_bytes()
    with pytest.raises(OptionError, match=r"rows\.csv would replace the input data"):
        Trained.open(tmp_path / "run").predict(str(rows), tmp_path / "." / "rows.csv")
    assert rows.read_bytes() == before


def test_predictions_that_cannot_be_written_are_named(digits, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*taken"):
        Trained.open(digits).predict("digits", tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []


def test_a_class_prior_changes_what_is_said_and_not_what_is_learnt(tmp_path, train):
    kept = {"epochs": 3, "select": "last", "loss": "cross-entropy"}
    plain = train(tmp_path / "training", class_prior=["training"], **kept)
    balanced = train(tmp_path / "balanced", class_prior=["balanced"], **kept)
    states = [load_file(tmp_path / name / "best.safetensors") for name in ("training", "balanced")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    trained = [Trained.open(tmp_path / name) for name in ("training", "balanced")]
    samples, _ = data.load_like("digits", trained[0].preprocess)
    before, after = (each.posterior.log_probabilities(each.outputs(samples)) for each in trained)
    joint = before - trained[0].priors.log_priors
    torch.testing.assert_close(joint.log_softmax(dim=1), after, atol=1e-6, rtol=1e-6)
    assert balanced.test.few > plain.test.few
    assert balanced.test.log_loss == plain.test.log_loss
    assert balanced.likeliest == plain.likeliest == plain.test


def test_a_run_decides_later_as_one_that_was_trained_so(tmp_path, train):
    kept = {"epochs": 3, "select": "last"}
    at_once = {"class_prior": ["training"], "at_least": ["recall:4=0.9"], "cost": ["3=5"]}
    result = train(tmp_path / "at-once", **at_once, **kept)
    train(tmp_path / "later", **kept)
    later = Trained.open(tmp_path / "later").decided(DecisionOptions(*map(tuple, at_once.values())))
    assert later.read == result.read == Trained.open(tmp_path / "at-once").read
    assert len(result.read.prices) == 1
    assert later.evaluate() == result.test
    assert later.decided(DecisionOptions()).read.weights == ()


def test_by_default_the_rare_are_decided_on_as_the_frequent_and_the_price_is_kept(tmp_path, train):
    result = train(tmp_path / "run", epochs=5)
    assert result.config["loss"] == "logit-adjustment"
    assert result.test.few > result.likeliest.few
    assert result.test.log_loss == result.likeliest.log_loss
    assert result.read.calibration != UNCALIBRATED


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (DecisionOptions(("uniform",)), "--class-prior uniform: give auto, training, balanced, loss"),
        (DecisionOptions(("3=1",)), "the class '0' has no frequency"),
        (DecisionOptions(at_least=("recall:x=0.5",)), "there is no class 'x'"),
        (DecisionOptions(cost=("3=-1",)), "a cost must be above 0"),
    ],
)
def test_decisions_that_cannot_be_are_refused(digits, decision, message):
    with pytest.raises(OptionError, match=message):
        Trained.open(digits).decided(decision)


def test_cosine_logits_are_scaled_as_in_their_loss(tmp_path, train):
    train(tmp_path / "run", loss="ldam", loss_options=["scale=20"], epochs=3)
    trained = Trained.open(tmp_path / "run")
    samples, _ = data.load_like("digits", trained.preprocess)
    logits = trained.decided(DecisionOptions(("loss",))).posterior.log_probabilities(trained.outputs(samples))
    transform = data.evaluation_transform(trained.spec)
    inputs, _ = next(iter(data.batches(samples, batch_size=512, shuffle=False, transform=transform)))
    with torch.no_grad():
        cosines = trained.model.eval()(inputs)
    assert cosines.abs().max() <= 1.0001
    assert torch.allclose(logits[:512], (20 * cosines.double()).log_softmax(dim=1), atol=1e-4)


def test_a_run_can_be_moved(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "elsewhere")
    moved = Trained.open(tmp_path / "elsewhere").evaluate()
    assert moved == Trained.open(digits).evaluate()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.yaml", None, "is not a run's folder"),
        ("data.json", None, r"data\.json is missing"),
        ("data.json", "{", r"data\.json: not valid JSON .* is damaged"),
        ("data.json", "{}", r"data\.json: name: Field required\. The file is damaged"),
        ("data.json", "[1]", r"data\.json: Input should be a dictionary .* is damaged"),
        ("best.safetensors", None, "has no weights yet"),
        ("best.safetensors", "abc", r"best\.safetensors is damaged"),
    ],
)
def test_a_damaged_run_is_named(digits, tmp_path, name, content, told):
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(RunError, match=told):
        Trained.open(run)


def test_weights_of_another_model_are_refused(digits, tmp_path, train):
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    train(tmp_path / "other", hidden=[7], epochs=1)
    shutil.copy(tmp_path / "other" / "best.safetensors", run)
    with pytest.raises(RunError, match=r"was not written beside this config\.yaml"):
        Trained.open(run)
    RunFolder(run).write_weights(RunFolder(tmp_path / "other").read_weights(), 1)
    with pytest.raises(RunError, match="does not fit the run's model"):
        Trained.open(run)


def test_classes_are_those_of_the_run_not_of_the_order_in_a_new_source(tmp_path, train):
    train(tmp_path / "run", image_folder(tmp_path / "pets"), model="mlp", epochs=8, augment="none")
    only = image_folder(tmp_path / "only", {"eel": 3}, seed=9)
    measured = Trained.open(tmp_path / "run").evaluate(str(only))
    assert measured.confusion is not None
    assert sum(measured.confusion[2]) == 3


def test_an_unknown_class_is_named(tmp_path, train):
    train(tmp_path / "run", image_folder(tmp_path / "pets"), model="mlp")
    with pytest.raises(DataError, match="'fox' is not among the classes of training"):
        Trained.open(tmp_path / "run").evaluate(str(image_folder(tmp_path / "more", {"fox": 3})))
