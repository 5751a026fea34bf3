"""``--dry-run`` of train and compare: real rows, a prediction, and nothing written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imbsam.cli.dry_run import duration, size

HERE = ("--threads", "1", "--device", "cpu")


@pytest.fixture
def parquet(parts_csv, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "parts.parquet"
    pd.read_csv(parts_csv).to_parquet(path)
    return path


def dry(imbsam, tmp_path, *words):
    """What a dry run finds, which leaves its folder as empty as it was."""
    ran = imbsam(*words, *HERE, "--dry-run", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    return json.loads(ran.out)


def test_of_digits_a_step_is_made_on_a_batch_and_a_run_is_predicted(imbsam, tmp_path):
    found = dry(imbsam, tmp_path, "train", "digits", "--epochs", 3)
    assert (sum(found["counts"]), found["validation"], found["test"]) == (317, 126, 539)
    (label,) = found["forecasts"]
    forecast = found["forecasts"][label]
    assert label == "imbsam"
    assert (forecast["steps"], forecast["network"]["rows"], forecast["network"]["shape"]) == (30, 32, [1, 8, 8])
    assert 0 < forecast["loss"] < 10
    speed = forecast["network"]["samples_per_second"]
    assert found["seconds"] == pytest.approx((3 * (317 * forecast["ratio"] + 126 / 3) + 539 / 3) / speed)


def test_every_method_of_a_comparison_is_tried_and_its_seeds_are_counted(imbsam, tmp_path):
    words = ("compare", "digits", "--seeds", 2, "--samples-per-second", 1000)
    found = dry(imbsam, tmp_path, *words, "--methods", "sgd", "imbsam:rho=0.1", "sam:hidden=[8]")
    assert list(found["forecasts"]) == ["sgd", "imbsam:rho=0.1", "sam:hidden=[8]"]
    seconds = [each["seconds"] for each in found["forecasts"].values()]
    assert found["seconds"] == pytest.approx(2 * sum(seconds))
    memory = [each["memory"] for each in found["forecasts"].values()]
    assert memory[2] < memory[0] < memory[1]


def test_a_csv_is_tried(imbsam, tmp_path, parts_csv):
    found = dry(imbsam, tmp_path, "train", parts_csv, "--target", "kind", "--method", "imbsam")
    assert sum(found["counts"]) + found["validation"] + found["test"] == 150
    assert len(found["counts"]) == 3


def test_a_blend_has_no_steps_to_try(fails, tmp_path, parts_csv):
    said = fails("train", parts_csv, "--target", "kind", "--dry-run")
    assert "--dry-run counts the steps of a network, but --method blend makes none" in said
    assert list(tmp_path.iterdir()) == []


def test_parquet_is_tried_as_the_csv_of_the_same_rows(imbsam, tmp_path, parts_csv, parquet):
    one, other = (dry(imbsam, tmp_path, "compare", path, "--target", "kind") for path in (parts_csv, parquet))
    assert one["counts"] == other["counts"]
    losses = [[each["loss"] for each in found["forecasts"].values()] for found in (one, other)]
    assert losses[0] == losses[1]


def test_a_folder_of_images_is_tried(imbsam, tmp_path, pets):
    found = dry(imbsam, tmp_path, "compare", pets, "--width", 0.25, "--methods", "sgd", "imbsam")
    assert found["forecasts"]["imbsam"]["network"]["shape"] == [3, 16, 16]
    assert sum(found["counts"]) + found["validation"] + found["test"] == 42


def test_people_are_told_what_it_will_take_and_that_nothing_was_written(imbsam, tmp_path):
    ran = imbsam("compare", "digits", "--methods", "sgd", "sam", "--dry-run", *HERE)
    assert (ran.code, ran.err) == (0, "")
    assert "317 training rows of 10 classes" in ran.out
    assert "tried: one step of each method on 32 rows of 1 x 8 x 8, with 26,122 parameters" in ran.out
    rows = {line.split()[0]: line.split() for line in ran.out.splitlines() if line.startswith(("  sgd", "  sam"))}
    assert [rows[name][3] for name in ("sgd", "sam")] == ["1.00", "2.00"]
    assert "all 12 runs, one after the other: " in ran.out
    assert "measured here on 32 rows at a time" in ran.out
    assert "Nothing was written." in ran.out
    assert list(tmp_path.iterdir()) == []


BAD = {
    "train nowhere": "nowhere",
    "train parts.csv": "--target",
    "train parts.csv --target kind --ignore colour wings": "wings",
    "train pets --image-size 16": "pets/cat/007.png",
    "train digits --loss foo": "there is no loss 'foo'",
    "train digits --model foo": "there is no model 'foo'",
    "train digits --method foo": "there is no method 'foo'",
    "train digits --tail foo": "--tail foo is not a tail rule",
    "train digits --device toaster": "--device toaster cannot be used",
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_trained_on_is_the_same_error_as_of_a_real_run(fails, tmp_path, parts_csv, pets, words):
    shutil.copy(parts_csv, tmp_path / "parts.csv")
    shutil.copytree(pets, tmp_path / "pets")
    (tmp_path / "pets/cat/007.png").write_bytes(b"no picture")
    before = sorted(tmp_path.rglob("*"))
    told = fails(*words.split(), "--dry-run")
    assert BAD[words] in told
    assert fails(*words.split(), "--quiet") == told
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unreadable_image_is_told_by_a_comparison_too_and_skipped_where_asked(imbsam, fails, tmp_path, pets):
    shutil.copytree(pets, tmp_path / "pets")
    (tmp_path / "pets/eel/000.png").write_bytes(b"")
    words = ("compare", "pets", "--width", 0.25, "--methods", "sgd", *HERE, "--dry-run")
    assert "pets/eel/000.png" in fails(*words)
    ran = imbsam(*words, "--skip-bad", "--json")
    found = json.loads(ran.out)
    assert sum(found["counts"]) + found["validation"] + found["test"] == 41


def test_a_loss_that_is_not_finite_is_told(fails):
    words = ("--loss", "logit-adjustment", "--loss-options", "tau=1e39")
    assert "the loss of this step is NaN or infinite" in fails("train", "digits", *words, "--dry-run")


@pytest.mark.slow
def test_a_large_batch_is_tried_on_what_little_memory_holds(imbsam, tmp_path):
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(0, 256, (224, 224, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    words = ("train", "photos", "--model", "resnet50", "--batch-size", 8, *HERE, "--dry-run", "--json")
    network = json.loads(imbsam(*words, "--samples-per-second", 9).out)["forecasts"]["imbsam"]["network"]
    assert network["rows"] == 4
    assert 4 * network["kept"] > 2**28


def test_a_folder_that_holds_other_runs_is_told_as_by_a_real_run(imbsam, fails, run, quick, tmp_path):
    told = fails("train", "digits", "--out", run, "--dry-run")
    assert told.startswith(f"{run} holds a run already.")
    words = ("compare", "digits", *quick, "--methods", "sgd", "--seeds", 1, "--jobs", 1, "--out", "c", "--quiet")
    assert imbsam(*words).code == 0
    assert "holds a run with another lr. Choose another --out" in fails(*words, "--lr", 0.5, "--dry-run")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("train digits --dry-run --samples-per-second 0", "--samples-per-second: input should be greater than 0"),
        ("compare digits --dry-run --samples-per-second inf", "--samples-per-second: input should be a finite number"),
        ("compare digits --samples-per-second 9", "--samples-per-second is used only by the prediction of --dry-run"),
        ("train --resume run --dry-run", "leave out SOURCE, --out, --overwrite and --dry-run"),
    ],
)
def test_what_a_dry_run_does_not_take_is_told(fails, tmp_path, words, told):
    assert told in fails(*words.split())
    assert list(tmp_path.iterdir()) == []


def test_times_are_told_in_the_unit_that_suits():
    assert [duration(seconds) for seconds in (59, 600, 7200, 86400, 200_000)] == [
        "59 seconds",
        "10.0 minutes",
        "2.0 hours",
        "24.0 hours",
        "2.3 days",
    ]


def test_bytes_are_told_in_the_unit_that_suits():
    assert [size(number) for number in (2**19, 2**29, 2**32)] == ["0.5 MiB", "0.5 GiB", "4.0 GiB"]
