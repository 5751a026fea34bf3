"""What a user can get wrong: one message, exit code 2, nothing half-written."""

import errno
import os
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
import torch

from imbsam.runs.folder import RunFolder
from tiny_data import image_folder, table

UNUSABLE_OPTIONS = {
    "--rho -1": "--rho: ",
    "--rho nan": "--rho: ",
    "--rho inf": "--rho: ",
    "--epochs 0": "--epochs: ",
    "--lr 0": "--lr: ",
    "--class-prior often": "--class-prior often: give auto",
    "--class-prior 3=1": "the class '0' has no frequency",
    "--at-least recall:3": "--at-least recall:3: give recall:CLASS=SHARE",
    "--at-least recall:99=0.5": "there is no class '99'",
    "--cost 3=0": "--cost 3=0: a cost must be above 0",
    "--seed 99999999999999999999": "--seed: ",
    "--validation-fraction 1": "--validation-fraction: ",
    "--method foo": "there is no method 'foo'; there are sgd, adamw, muon, sam",
    "--method-options alpha=1": "there is no option 'alpha'; there are: tail_weight",
    "--method-options tail_weight=-1": "tail_weight",
    "--ascent foo": "there is no ascent 'foo'",
    "--loss foo": "there is no loss 'foo'; choose one of cross-entropy",
    "--loss focal --loss-options alpha=1": "the loss focal has no option 'alpha'",
    "--loss focal --loss-options gamma=-1": "gamma must be a number of at least 0",
    "--loss-options gamma": "--loss-options gamma: give NAME=NUMBER",
    "--model foo": "there is no model 'foo'",
    "--model foo --width 0.5": "there is no model 'foo'",
    "--model no.such.module:net": "cannot import the module 'no.such.module'",
    "--model mlp --width 2": "the model mlp has no option width",
    "--model resnet20 --hidden 8": "the model resnet20 has no option hidden",
    "--weights nowhere.pt": "there is no weights file nowhere.pt",
    "--tail foo": "--tail foo is not a tail rule",
    "--tail fewer-than=few": "'few' is not a number",
    "--tail classes=1,eleven": "there is no class 'eleven'. The classes are 0, 1, 2",
    "--device toaster": "--device toaster cannot be used",
    "--device meta": "--device meta cannot be used",
    "--ignore x": "ignore names columns of a table",
    "--target x": "target='x' names a column",
    "--config nowhere.yaml": "cannot read options from nowhere.yaml",
}


@pytest.mark.parametrize("words", UNUSABLE_OPTIONS)
def test_an_option_that_cannot_be_used_leaves_no_folder(fails, quick, tmp_path, words):
    assert UNUSABLE_OPTIONS[words] in fails("train", "digits", *quick, "--out", "run", *words.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "train digits --epoch 3",
        "train digits --epochs three",
        "train digits more",
        "train digits --sampler odd",
        "evaluate",
        "predict run",
        "report",
        "doctor now",
    ],
)
def test_a_command_line_that_cannot_be_read_shows_no_traceback(imbsam, words):
    ran = imbsam(*words.split())
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert "--help" in ran.err


def test_a_misspelt_option_is_put_right(imbsam):
    assert "--epochs" in imbsam("train", "digits", "--epoch", 3).err


@pytest.mark.parametrize("command", ["train", "compare"])
def test_without_a_source_one_is_asked_for(fails, command):
    assert fails(command).startswith(f"name what to {command} on: imbsam {command} SOURCE")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_source_that_is_not_there_is_quoted(fails, quick, tmp_path, command):
    words = ["--jobs", 1, "--seeds", 1] if command == "compare" else []
    assert "photos/nowhere" in fails(command, "photos/nowhere", *quick, *words, "--quiet")


def test_an_empty_folder_is_quoted(fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails("train", "empty")
    assert not (tmp_path / "runs").exists()


def test_an_image_that_cannot_be_read_is_quoted_unless_skipped(fails, imbsam, quick, tmp_path):
    image_folder(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "000.png").write_bytes(b"no picture")
    assert "cat/000.png" in fails("train", "pets", *quick, "--out", "run")
    assert not (tmp_path / "run").exists()
    ran = imbsam("train", "pets", *quick, "--skip-bad", "--model", "mlp", "--out", "run", "--quiet")
    assert ran.code == 0
    assert any("000.png" in note for note in RunFolder(tmp_path / "run").read_result().notes)


def test_a_table_needs_its_target(fails, parts_csv):
    assert "Name it by --target; the columns are" in fails("train", parts_csv)
    told = fails("train", parts_csv, "--target", "sort")
    assert "no column 'sort' for --target; the columns are" in told
    assert "'kind'" in told or "kind" in told


def test_a_column_that_tells_nothing_is_named_with_the_way_out(fails, tmp_path):
    rows = pd.read_csv(table(tmp_path / "parts.csv"))
    rows["maker"] = "ACME"
    rows.to_csv(tmp_path / "parts.csv", index=False)
    told = fails("train", "parts.csv", "--target", "kind")
    assert "the same in every row: maker" in told.replace("'", "")
    assert "--ignore maker" in told


def test_a_target_of_one_class_is_refused(fails, tmp_path):
    rows = pd.read_csv(table(tmp_path / "parts.csv"))
    rows["kind"] = "good"
    rows.to_csv(tmp_path / "parts.csv", index=False)
    assert "only one class" in fails("train", "parts.csv", "--target", "kind")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--augment cifar", "--augment cifar is for images"),
        ("--augment trivial", "--augment trivial is for images"),
        ("--image-size 8", "image_size is for images"),
        ("--model resnet20", "resnet20 takes images, but these data are a table: choose mlp"),
        ("--ignore colour wings", "wings"),
        ("--tail classes=good,bent", "no class 'bent'"),
    ],
)
def test_options_of_images_are_refused_for_a_table(fails, parts_csv, tmp_path, words, told):
    assert told in fails("train", parts_csv, "--target", "kind", "--out", "run", *words.split())
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_explodes_is_told_with_its_epoch(fails, quick, tmp_path):
    told = fails("train", "digits", *quick, "--lr", "1e30", "--out", "run", "--quiet")
    assert told.startswith("epoch 1: ")
    assert told.endswith("No epoch was finished.")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_file_in_place_of_the_folder_is_named_and_kept(fails, quick, tmp_path):
    (tmp_path / "taken").write_text("mine")
    for out in ("taken", "taken/run"):
        assert "cannot write taken" in fails("train", "digits", *quick, "--out", out)
    assert (tmp_path / "taken").read_text() == "mine"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(run, tmp_path):
    """A finished run that may be damaged."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_that_holds_a_run_is_kept(fails, quick, copied):
    before = contents(copied)
    told = fails("train", "digits", *quick, "--out", "run")
    assert told == ("run holds a run already. Resume it: imbsam train --resume run; or start again with --overwrite.")
    assert contents(copied) == before


@pytest.mark.parametrize("words", ["photos/nowhere", "digits --loss foo", "digits --tail foo", "digits --model foo"])
def test_a_run_is_overwritten_only_when_the_new_one_can_begin(fails, copied, words):
    before = contents(copied)
    fails("train", *words.split(), "--out", "run", "--overwrite")
    assert contents(copied) == before


@pytest.mark.parametrize("name", ["nowhere", "empty", "other"])
@pytest.mark.parametrize("words", [["train", "--resume"], ["evaluate"], ["predict"]])
def test_a_folder_without_a_run_is_named(fails, tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("hello")
    more = ["digits"] if words == ["predict"] else []
    assert fails(*words, name, *more) == f"{name} is not a run's folder: it has no config.yaml."


def test_a_folder_without_a_result_has_no_report(fails, tmp_path):
    assert "nowhere" in fails("report", "nowhere")


def test_a_finished_run_is_not_resumed(fails, copied):
    before = contents(copied)
    assert fails("train", "--resume", "run") == "the run in run is finished. Its report: imbsam report run"
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits"], "leave out SOURCE, --out, --overwrite and --dry-run"),
        (["--out", "x"], "leave out SOURCE, --out, --overwrite and --dry-run"),
        (["--overwrite"], "leave out SOURCE, --out, --overwrite and --dry-run"),
        (["--epochs", "5"], "uses the options of the run; only --device,"),
        (["--lr", "0.5"], "uses the options of the run; only --device,"),
        (["--config", "run/config.yaml"], "--resume uses"),
    ],
)
def test_resuming_takes_no_other_options(fails, copied, words, told):
    (copied / "result.json").unlink()
    before = contents(copied)
    assert told in fails("train", "--resume", "run", *words)
    assert contents(copied) == before


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"x" * 5000])
def test_a_damaged_checkpoint_is_told_and_nothing_is_changed(fails, copied, damage):
    (copied / "result.json").unlink()
    (copied / "previous.ckpt").unlink()
    (copied / "last.ckpt").write_bytes(damage((copied / "last.ckpt").read_bytes()))
    before = contents(copied)
    assert "run/last.ckpt is damaged" in fails("train", "--resume", "run")
    assert contents(copied) == before


def test_a_checkpoint_of_another_model_is_told_in_a_line(fails, copied):
    (copied / "result.json").unlink()
    held = RunFolder(copied).read_checkpoint()
    RunFolder(copied).write_checkpoint(replace(held, model={"weight": torch.zeros(3)}))
    told = fails("train", "--resume", "run")
    assert "run/last.ckpt does not fit this run" in told
    assert "\n" not in told


def test_data_of_another_kind_are_refused(fails, run, parts_csv, tmp_path):
    assert "but this source is not" in fails("evaluate", run, parts_csv)
    image_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    assert "not among the classes of training" in fails("evaluate", run, "pets")
    assert "'cat', 'dog'" in fails("predict", run, "pets")
    assert not (tmp_path / "predictions.csv").exists()


def test_predictions_that_cannot_be_written_are_told(fails, run, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert "cannot write taken/p.csv" in fails("predict", run, "digits", "--out", "taken/p.csv")


def test_predictions_do_not_replace_the_data(fails, quick, imbsam, parts_csv, tmp_path):
    imbsam("train", parts_csv, *quick, "--target", "kind", "--out", "run", "--quiet")
    table(tmp_path / "new.csv", rows=5, target=False)
    before = (tmp_path / "new.csv").read_bytes()
    assert "would replace the input data" in fails("predict", "run", "new.csv", "--out", "new.csv")
    assert (tmp_path / "new.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--methods sgd sgd", "needs different methods"),
        ("--methods foo", "--methods foo: there is no method 'foo'"),
        ("--methods sam:rho", "--methods sam:rho: 'rho' is not NAME=VALUE"),
        ("--methods sam:rho=-1", "--methods sam:rho=-1: --rho: "),
        ("--seeds 0", "--seeds must be at least 1; got 0"),
        ("--jobs 0", "--jobs must be at least 1; got 0"),
    ],
)
def test_a_comparison_that_cannot_be_leaves_no_folder(fails, tmp_path, words, told):
    assert told in fails("compare", "digits", "--out", "c", "--quiet", *words.split())
    assert not (tmp_path / "c").exists()


def test_when_the_disk_fills_the_last_checkpoint_stands(fails, imbsam, quick, tmp_path, monkeypatch):
    written = []
    real = os.fsync

    def fsync(descriptor):
        written.append(descriptor)
        # Two files describe the run and two more make an epoch; the disk is full in the second.
        if len(written) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        told = fails("train", "digits", *quick, "--out", "run", "--quiet")
    assert told.startswith("cannot write run/")
    assert "No space left on device" in told
    assert RunFolder(tmp_path / "run").read_checkpoint().progress.epoch == 1
    assert not list((tmp_path / "run").glob(".*"))
    assert imbsam("train", "--resume", "run", "--quiet").code == 0
    assert RunFolder(tmp_path / "run").read_result().epochs == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB: room for one epoch of a run on digits."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_on_a_disk_that_is_really_full_the_last_checkpoint_stands(fails, quick, small_disk):
    told = fails("train", "digits", *quick, "--out", small_disk / "run", "--quiet")
    assert "No space left on device" in told
    assert RunFolder(small_disk / "run").read_checkpoint().progress.epoch == 1
    assert not list((small_disk / "run").glob(".*"))


def test_events_that_cannot_be_written_are_told_with_the_way_out(fails, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file where the folder of events should be")
    told = fails("train", "digits", "--epochs", 1, "--threads", 1, "--out", "run")
    assert told.startswith("cannot write run/tensorboard: ")
    assert told.endswith("To run without it: --track none.")


@pytest.mark.parametrize("name", ["St\udcdf", "n" * 300, "a\n[red]", "-😀"])
def test_a_source_that_is_not_there_is_told_by_its_readable_name(fails, name):
    told = fails("train", "--", name) if name.startswith("-") else fails("train", name)
    assert "\\ud" not in told
    assert r"St\xdf" in told or "n" * 300 in told or "a\\n[red]" in told or "-😀" in told
