import json
import math

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from imbsam.errors import DataError, ImbsamError, NonFiniteError, OptionError, PriorsError
from imbsam.report.files import read_run
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training.methods import NAMES
from tiny_data import image_folder, table

RESNET = {"model": "resnet20", "width": 0.25, "batch_size": 16}


def epochs(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_all_its_files_and_no_other(tmp_path, train):
    train(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "data.json",
        "metrics.jsonl",
        "last.ckpt",
        "previous.ckpt",
        "best.safetensors",
        "result.json",
        "examples.json",
    }


def test_the_result_comes_back_as_it_was_told(tmp_path, train):
    result = train(tmp_path / "run", seed=3)
    read = read_run(tmp_path / "run")
    assert read.result == result
    assert (read.result.name, read.result.method, read.result.seed) == ("run", "imbsam", 3)
    assert len(read.epochs) == result.epochs == 2
    assert result.test.samples == 539


def test_metrics_hold_a_line_an_epoch(tmp_path, train):
    train(tmp_path / "run", schedule="step", epochs=10, lr=0.2, rho=0.3, warmup=0)
    lines = epochs(tmp_path / "run")
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert [line["lr"] for line in lines] == pytest.approx([0.2] * 8 + [0.02, 0.002])
    assert {line["rho"] for line in lines} == {0.3}
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert {"balanced", "few", "per_class"} <= set(lines[0]["validation"])


def test_epochs_are_told_as_they_end(tmp_path, train):
    told = []
    train(tmp_path / "run", on_epoch=told.append)
    assert told == RunFolder(tmp_path / "run").epochs()


@pytest.mark.parametrize("values", [{}, {"model": "mlp"}, {"sampler": "balanced", "method": "sam", "base": "adamw"}])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, train, values):
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        torch.manual_seed(len(name))
        train(tmp_path / name, seed=seed, **values)
    weights = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("first", "again", "other")]
    assert weights[0] == weights[1] != weights[2]


# Torch finds four too many for few cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
def test_workers_do_not_change_the_weights(tmp_path, pets, train):
    for workers in (0, 4):
        train(tmp_path / f"{workers}", pets, epochs=1, model="mlp", augment="cifar", batch_size=16, workers=workers)
    assert (tmp_path / "0" / "best.safetensors").read_bytes() == (tmp_path / "4" / "best.safetensors").read_bytes()


@pytest.mark.parametrize("method", NAMES)
def test_every_method_learns(tmp_path, train, method):
    result = train(tmp_path / "run", method=method, epochs=4, lr=0.1 if method not in ("adamw", "muon") else 0.01)
    losses = [line["train_loss"] for line in epochs(tmp_path / "run")]
    assert losses[-1] < 0.6 * losses[0]
    assert result.test.overall > 0.3


@pytest.mark.parametrize("base", ["adamw", "muon"])
@pytest.mark.parametrize("method", ["sgd", "sam", "imbsam"])
def test_methods_learn_over_another_base(tmp_path, train, method, base):
    # The plain method keeps to its own optimizer and rate.
    result = train(tmp_path / "run", method=method, base=base, epochs=4, batch_size=8)
    losses = [line["train_loss"] for line in epochs(tmp_path / "run")]
    assert losses[-1] < 0.6 * losses[0]
    assert result.config["lr"] == (0.1 if method == "sgd" else 0.001)


@pytest.mark.parametrize(
    ("method", "ratio"),
    [("sgd", 1), ("adamw", 1), ("sam", 2), ("imbsam", (317 + 31) / 317)],
)
def test_cost_is_the_rows_each_method_must_forward(tmp_path, train, method, ratio):
    result = train(tmp_path / "run", method=method, epochs=1)
    tail = sum(n for n, marked in zip(result.counts, result.tail, strict=True) if marked)
    assert (sum(result.counts), tail) == (317, 31)
    assert result.cost_ratio == pytest.approx(ratio)


def test_without_a_neighbourhood_imbsam_is_sgd_bit_for_bit(tmp_path, train):
    train(tmp_path / "sgd", method="sgd")
    train(tmp_path / "imbsam", method="imbsam", rho=0.0)
    sgd, imbsam = (load_file(tmp_path / method / "best.safetensors") for method in ("sgd", "imbsam"))
    assert sgd.keys() == imbsam.keys()
    assert all(torch.equal(sgd[name], imbsam[name]) for name in sgd)


@pytest.mark.parametrize(
    ("loss", "parameters"),
    [
        ("cross-entropy", ["label_smoothing=0.1"]),
        ("focal", ["gamma=2"]),
        ("class-balanced", ["beta=0.99"]),
        ("ldam", ["max-margin=0.4", "scale=20"]),
        ("balanced-softmax", []),
        ("logit-adjustment", ["tau=1.5"]),
        ("vs", ["gamma=0.1"]),
    ],
)
def test_every_loss_learns(tmp_path, train, loss, parameters):
    result = train(tmp_path / "run", loss=loss, loss_options=parameters, epochs=4)
    losses = [line["train_loss"] for line in epochs(tmp_path / "run")]
    assert losses[-1] < losses[0]
    assert result.test.overall > 0.3
    assert result.config["loss_options"] == parameters


def test_deferred_weights_change_nothing_before_their_epoch(tmp_path, train):
    plain, deferred = tmp_path / "plain", tmp_path / "deferred"
    train(plain, epochs=4, loss="ldam")
    train(deferred, epochs=4, loss="ldam", reweight_from=0.5)
    before, after = ([line["train_loss"] for line in epochs(folder)] for folder in (plain, deferred))
    assert before[:2] == after[:2]
    assert before[2] != after[2]


@pytest.mark.parametrize(
    "values",
    [
        {"norm": "batch"},
        {"norm": "batch", "batch_statistics": "batch"},
        {"norm": "group", "channels_last": False},
        {"precision": "bfloat16"},
        {"clip_norm": 0.5, "augment": "none", "image_size": 20},
    ],
)
def test_a_narrow_resnet_trains_on_a_folder_of_images(tmp_path, pets, train, values):
    result = train(tmp_path / "run", pets, **RESNET, **values)
    assert result.classes == ("cat", "dog", "eel")
    assert result.config["width"] == 0.25
    assert math.isfinite(epochs(tmp_path / "run")[-1]["train_loss"])
    has_statistics = any("running_mean" in name for name in load_file(tmp_path / "run" / "best.safetensors"))
    assert has_statistics == (values.get("norm") != "group")


def test_images_of_16_pixels_get_the_defaults_of_images(tmp_path, pets, train):
    config = train(tmp_path / "run", pets, width=0.25, epochs=1).config
    assert (config["model"], config["augment"], config["batch_size"], config["rho"]) == ("resnet20", "crop", 32, 0.05)


def test_clipping_bounds_what_a_step_moves(tmp_path, train):
    kept = {"method": "sgd", "epochs": 1, "batch_size": 1000, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    states = []
    for name, norm in (("tiny", 1e-6), ("small", 1e-3)):
        train(tmp_path / name, clip_norm=norm, **kept)
        states.append(load_file(tmp_path / name / "best.safetensors"))
    moved = math.sqrt(sum(float(((states[0][n] - states[1][n]).double() ** 2).sum()) for n in states[0]))
    assert moved == pytest.approx(1e-3 - 1e-6, rel=0.05)


def test_bfloat16_forwards_differ_from_float32_and_the_weights_stay_float32(tmp_path, train):
    for precision in ("float32", "bfloat16"):
        train(tmp_path / precision, precision=precision, epochs=1)
    states = [load_file(tmp_path / precision / "best.safetensors") for precision in ("float32", "bfloat16")]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert {tensor.dtype for tensor in states[1].values()} == {torch.float32}


def test_a_table_with_missing_values_categories_and_dates_is_learnt(tmp_path, parts_csv, train):
    result = train(tmp_path / "run", parts_csv, target="kind", epochs=10, batch_size=32)
    assert result.classes == ("broken", "good", "scratched")
    assert result.test.balanced > 0.7
    assert any("'width'" in note and "missing" in note for note in result.notes)
    columns = json.loads((tmp_path / "run" / "data.json").read_text())["preprocess"]
    assert [(column["name"], column["date"]) for column in columns["numeric"]] == [
        ("width", False),
        ("height", False),
        ("made", True),
    ]
    assert [column["name"] for column in columns["categorical"]] == ["colour"]


def test_a_user_model_is_found_by_its_import_path(tmp_path, monkeypatch, train):
    (tmp_path / "ours_engine.py").write_text(
        "from torch import nn\n"
        "def net(spec, *, num_classes):\n"
        "    size = spec.channels * spec.height * spec.width\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    train(tmp_path / "run", model="ours_engine:net")
    assert set(load_file(tmp_path / "run" / "best.safetensors")) == {"1.weight", "1.bias"}


def test_weights_to_start_from_are_those_of_the_file(tmp_path, train):
    train(tmp_path / "first", epochs=1)
    frozen = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0, "method": "sgd"}
    train(tmp_path / "second", weights=tmp_path / "first" / "best.safetensors", **frozen)
    states = [load_file(tmp_path / name / "best.safetensors") for name in ("first", "second")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_best_epoch_is_the_highest_in_validation_and_its_weights_are_kept(tmp_path, train):
    # A rate this high makes the last epoch worse than one before.
    shaky = {"epochs": 4, "lr": 0.3, "schedule": "constant", "loss": "cross-entropy", "class_prior": ["loss"]}
    best = train(tmp_path / "best", **shaky)
    scores = [line["validation"]["balanced"] for line in epochs(tmp_path / "best")]
    assert max(scores) > scores[-1]
    assert best.best_epoch == scores.index(max(scores)) + 1
    assert best.validation.balanced == max(scores)
    last = train(tmp_path / "last", **shaky, select="last")
    assert (last.best_epoch, last.validation.balanced) == (4, scores[-1])


def test_of_equal_epochs_the_later_is_kept(tmp_path, train):
    # With weights that do not move, every epoch scores the same.
    assert train(tmp_path / "run", epochs=3, lr=1e-30, weight_decay=0.0).best_epoch == 3


def test_without_validation_data_the_last_epoch_is_kept(tmp_path, train):
    result = train(tmp_path / "run", epochs=3, validation_fraction=0.0)
    assert result.best_epoch == 3
    assert result.validation is None
    assert epochs(tmp_path / "run")[0]["validation"] is None


def test_the_test_labels_have_no_say_in_what_is_trained_or_kept(tmp_path, train):
    folder = tmp_path / "parts"
    folder.mkdir()
    table(folder / "train.csv", seed=1)
    table(folder / "test.csv", seed=2)
    kept = {"target": "kind", "epochs": 5, "batch_size": 32, "schedule": "constant"}
    honest = train(tmp_path / "honest", folder, **kept)
    rows = pd.read_csv(folder / "test.csv")
    rows["kind"] = rows["kind"].sample(frac=1, random_state=0).to_numpy()
    rows.to_csv(folder / "test.csv", index=False)
    corrupt = train(tmp_path / "corrupt", folder, **kept)
    assert honest.test != corrupt.test
    assert honest.best_epoch == corrupt.best_epoch
    assert honest.validation == corrupt.validation
    weights = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("honest", "corrupt")]
    assert weights[0] == weights[1]


def test_options_left_open_are_recorded_as_they_were_used(tmp_path, train):
    config = train(tmp_path / "run", epochs=3, hidden=[8]).config
    _, recorded = RunFolder(tmp_path / "run").read_config()
    assert recorded.flat() == config
    assert (config["model"], config["imbalance"], config["rho"], config["lr"]) == ("mlp", 50.0, 0.2, 0.1)


def test_the_caller_may_name_the_variant(tmp_path, options):
    result = fit(RunFolder(tmp_path / "run"), "digits", options(epochs=1), label="imbsam:rho=0.1")
    assert (result.label, result.method) == ("imbsam:rho=0.1", "imbsam")


@pytest.mark.parametrize(
    ("error", "told", "values"),
    [
        (OptionError, "no loss 'foo'", {"loss": "foo"}),
        (OptionError, "label_smoothing", {"loss": "cross-entropy", "loss_options": ["tau=1"]}),
        (OptionError, "NAME=NUMBER", {"loss": "focal", "loss_options": ["gamma"]}),
        (OptionError, "gamma", {"loss": "focal", "loss_options": ["gamma=-1"]}),
        (OptionError, "width", {"width": 2.0}),
        (OptionError, "--device", {"device": "toaster"}),
        (OptionError, "--device meta", {"device": "meta"}),
        (ImbsamError, "no model 'foo'", {"model": "foo"}),
        (ImbsamError, "no weights file", {"weights": "nowhere.pt"}),
        (PriorsError, "few_below", {"few_below": 500}),
    ],
)
def test_what_cannot_be_used_leaves_no_folder(tmp_path, train, error, told, values):
    with pytest.raises(error, match=told):
        train(tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_in_an_epoch_is_told_with_its_epoch(tmp_path, train):
    with pytest.raises(NonFiniteError, match=r"epoch 1: .* lower the learning rate .* No epoch was finished\.$"):
        train(tmp_path / "run", lr=1e30)


def test_logits_that_explode_in_validation_are_told_with_their_epoch(tmp_path, train):
    # The only step of the epoch is finite; what it leads to is not.
    with pytest.raises(NonFiniteError, match=r"epoch 1: .*logits are not finite.* No epoch was finished\.$"):
        train(tmp_path / "run", lr=1e30, batch_size=1000)


def test_when_a_later_epoch_explodes_the_checkpoint_before_it_stands(tmp_path, train):
    kept = {"schedule": "constant", "epochs": 4, "warmup": 3.9, "method": "sgd"}
    # 317 samples are one batch: the rate of epoch k is k / 4.9 of the whole.
    with pytest.raises(NonFiniteError, match=r"epoch ([23]): .* The checkpoint of epoch ([12]) is kept\.$") as caught:
        train(tmp_path / "run", lr=1e13, batch_size=1000, clip_norm=1.0, **kept)
    finished = int(str(caught.value).split("epoch")[1].split(":")[0]) - 1
    assert RunFolder(tmp_path / "run").read_checkpoint().progress.epoch == finished
    assert len(epochs(tmp_path / "run")) == finished


def test_a_class_too_rare_to_test_is_scored_as_absent(tmp_path, train):
    source = image_folder(tmp_path / "pets", {"cat": 10, "dog": 6, "eel": 2}, size=8)
    result = train(tmp_path / "run", source, epochs=1)
    assert result.test.per_class[2] is None
    assert result.counts[2] == 2


def test_tables_refuse_the_augmentation_of_images(tmp_path, parts_csv, train):
    with pytest.raises(OptionError, match="--augment cifar is for images"):
        train(tmp_path / "run", parts_csv, target="kind", augment="cifar")


def test_one_class_alone_is_refused(tmp_path, train):
    with pytest.raises(DataError, match="only one class"):
        train(tmp_path / "run", image_folder(tmp_path / "pets", {"cat": 4}, size=8))
