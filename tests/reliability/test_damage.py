"""A damaged file is told by name, or the checkpoint before it is used and that is said: never other weights."""

import errno
import io
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from imbsam.anomaly import saved
from imbsam.errors import ImbsamError, RunError, RunWarning
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained
from imbsam.storage.seal import sealed
from reliability import damage, small

FLIPS = 500
DAMAGES = {"cut": damage.cuts, "flipped": lambda content: damage.flips(content, FLIPS)}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run."""
    return small.copied(finished, tmp_path / "run")


@pytest.fixture
def begun(run):
    """The same after its first epoch: the checkpoints of the first and of the second, which the process did not see."""
    run.result.unlink()
    return run


@pytest.mark.parametrize("kind", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_said(begun, kind):
    whole = small.digest(begun.read_checkpoint())
    content = begun.checkpoint.read_bytes()
    begun.checkpoint.unlink()
    with pytest.warns(RunWarning, match="missing"):
        before = small.digest(begun.read_checkpoint())
    assert before != whole
    count = 0
    for damaged in DAMAGES[kind](content):
        begun.checkpoint.write_bytes(damaged)
        with pytest.warns(RunWarning, match=r"last\.ckpt is damaged .* The one before it is used: .*previous\.ckpt"):
            assert small.digest(begun.read_checkpoint()) == before
        count += 1
    assert count == (16 if kind == "cut" else FLIPS)


@pytest.mark.parametrize("kind", DAMAGES)
def test_without_one_before_a_damaged_checkpoint_is_refused(begun, kind):
    begun.previous.unlink()
    for content in DAMAGES[kind](begun.checkpoint.read_bytes()):
        begun.checkpoint.write_bytes(content)
        with pytest.raises(RunError, match=r"last\.ckpt is damaged"):
            begun.read_checkpoint()


def damaged_run(begun, content, table, finished):
    begun.checkpoint.write_bytes(content)
    with pytest.warns(RunWarning, match="is damaged"):
        fit(begun, str(table), small.options(), label="a")
    assert small.outcome(begun.path) == small.outcome(finished.path)


def test_from_the_one_before_the_run_ends_with_the_same_bytes(begun, table, finished):
    content = begun.checkpoint.read_bytes()
    previous = begun.previous.read_bytes()
    for damaged in (b"", content[:1000], next(damage.flips(content, 1)), begun.weights.read_bytes()):
        begun.previous.write_bytes(previous)
        begun.result.unlink(missing_ok=True)
        damaged_run(begun, damaged, table, finished)


def test_a_damaged_checkpoint_never_becomes_the_one_before(begun):
    whole, previous = begun.read_checkpoint(), begun.previous.read_bytes()
    begun.checkpoint.write_bytes(b"damaged")
    begun.write_checkpoint(replace(whole, steps=0))
    assert begun.previous.read_bytes() == previous


def test_the_checkpoint_of_another_run_is_refused_though_it_fits_the_model(begun, table, tmp_path):
    other = small.train(tmp_path / "other", table, seed=1)
    shutil.copy(other.checkpoint, begun.checkpoint)
    with pytest.raises(RunError, match="does not fit this run: that run has another seed"):
        fit(begun, str(table), small.options())


def test_a_checkpoint_from_a_newer_schema_is_named_and_the_one_before_is_not_taken_instead(begun):
    buffer = io.BytesIO()
    torch.save({"schema": 2}, buffer)
    begun.checkpoint.write_bytes(sealed(buffer.getvalue()))
    with pytest.raises(RunError, match="another version of imbsam"):
        begun.read_checkpoint()


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_weights_are_refused_or_the_same(run, kind):
    whole = run.read_weights()
    same = 0
    for content in DAMAGES[kind](run.weights.read_bytes()):
        run.weights.write_bytes(content)
        try:
            read = run.read_weights()
        except RunError:
            continue
        assert read.keys() == whole.keys()
        assert all(torch.equal(read[name], whole[name]) for name in whole)
        same += 1
    # Blanks that pad the header may change.
    assert same < FLIPS / 50


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_a_damaged_description_never_gives_other_predictions(run, name, kind):
    path, whole, same = run.path / name, Trained.open(run.path), 0
    for content in DAMAGES[kind](path.read_bytes()):
        path.write_bytes(content)
        try:
            read = Trained.open(run.path)
        except ImbsamError:
            continue
        assert read.options.deciding() == whole.options.deciding()
        assert (read.classes, read.groups) == (whole.classes, whole.groups)
        assert read.preprocess | {"source": None} == whole.preprocess | {"source": None}
        same += 1
    # The source, the threads and what was asked for decide nothing.
    assert same < FLIPS / 2


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", [saved.WEIGHTS, saved.ABOUT])
def test_a_damaged_detector_never_gives_other_scores(detector, tmp_path, name, kind):
    folder = shutil.copytree(detector, tmp_path / "detector")
    whole, same = decides(saved.SavedDetector.open(folder)), 0
    for content in DAMAGES[kind]((folder / name).read_bytes()):
        (folder / name).write_bytes(content)
        try:
            read = saved.SavedDetector.open(folder)
        except RunError:
            continue
        assert decides(read) == whole
        same += 1
    # Blanks, and where the data lay.
    assert same < FLIPS / 5


def decides(held):
    members = [
        (each.objective.state_dict(), vars(each.scaling), each.shift, each.spread) for each in held.detector.members
    ]
    rest = [
        vars(held.detector.threshold),
        held.detector.settings,
        held.preprocess,
        held.words,
        held.typical,
        held.counts,
    ]
    return small.digest([members, rest])


def test_the_weights_of_another_detector_are_refused(detector, tmp_path):
    folder = shutil.copytree(detector, tmp_path / "detector")
    about = json.loads((folder / saved.ABOUT).read_text())
    about["members"][0]["spread"] *= 2
    (folder / saved.ABOUT).write_text(json.dumps(about))
    with pytest.raises(RunError, match=r"detector\.safetensors was not written beside this detector\.json"):
        saved.SavedDetector.open(folder)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_whichever_write_fails_the_run_goes_on_to_the_same_bytes(tmp_path, table, finished, monkeypatch, fault):
    fsync, writes = os.fsync, []

    def failing(descriptor):
        writes.append(descriptor)
        if len(writes) == at:
            raise OSError(fault, os.strerror(fault))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    at, told = 0, os.strerror(fault)
    while told:
        at += 1
        writes.clear()
        run = RunFolder(tmp_path / f"run{at}")
        told = refusal(run, table)
        if told:
            assert os.strerror(fault) in told
            assert not run.result.exists()
            assert refusal(run, table) == ""
        assert small.outcome(run.path) == small.outcome(finished.path)
    # Two files describe a run, two make each epoch, one is the result; the one at the start drops metrics.
    assert at == len(writes) + 1 >= 8


def refusal(run, table) -> str:
    """Train, and give what was told where it could not."""
    try:
        fit(run, str(table), small.options(), label="a")
    except RunError as error:
        return str(error)
    return ""


CONFIGS = (b"", b"\xff\xfe", b"a: [", b"- 1", b"!!python/object/apply:os.system [id]", b"a: &a [*a, *a]")


@pytest.mark.parametrize("content", CONFIGS)
def test_a_config_that_is_none_is_named(begun, content):
    (begun.path / "config.yaml").write_bytes(content)
    with pytest.raises(ImbsamError):
        Trained.open(begun.path)
