"""A run that was killed and resumed against one that was not: the same bits."""

import io
import json
import signal
from dataclasses import is_dataclass, replace

import pytest
import torch

from imbsam.errors import DataError, OptionError, RunError
from imbsam.optim import ASCENTS, SharpnessAware
from imbsam.runs.checkpoint import unpacked
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.storage.seal import sealed
from imbsam.training.methods import NAMES
from tiny_data import table

EPOCHS = 4
RESNET = {"model": "resnet20", "width": 0.25, "batch_size": 16, "augment": "cifar"}


class Killed(BaseException):
    """Stands for whatever ends a process."""


def kill_after(epoch):
    def on_epoch(record):
        if record.epoch == epoch:
            raise Killed

    return on_epoch


def train_twice(tmp_path, options, source, killed_after, **values):
    """One run straight through, one killed and resumed."""
    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    chosen = options(epochs=EPOCHS, **values)
    results = [fit(straight, str(source), chosen, label="a")]
    with pytest.raises(Killed):
        fit(resumed, str(source), chosen, label="a", on_epoch=kill_after(killed_after))
    assert not resumed.result.exists()
    torch.manual_seed(99)
    results.append(fit(resumed, *resumed.read_config(), label="a"))
    return straight, resumed, results


def stopped_within_an_epoch(tmp_path, options, source, **values):
    """One run straight through, one stopped by a signal in the second step and resumed."""
    chosen = options(**values)
    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    results = [fit(straight, str(source), chosen, label="a")]
    made, original = 0, SharpnessAware.passes

    def passes(optimizer, *rest, **named):
        nonlocal made
        made += 1
        if made == 2:
            signal.raise_signal(signal.SIGINT)
        return original(optimizer, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharpnessAware, "passes", passes)
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, str(source), chosen, label="a")
    assert resumed.read_checkpoint().begun.losses
    results.append(fit(resumed, *resumed.read_config(), label="a"))
    return straight, resumed, results


def assert_same(first, second, path="checkpoint"):
    assert type(first) is type(second), path
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    elif is_dataclass(first):
        assert_same(vars(first), vars(second), path)
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_same(first[key], second[key], f"{path}[{key!r}]")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{path}[{index}]")
    else:
        assert first == second, path


def lines_without_seconds(folder):
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(straight, resumed, results):
    assert straight.weights.read_bytes() == resumed.weights.read_bytes()
    assert lines_without_seconds(straight) == lines_without_seconds(resumed)
    assert_same(straight.read_checkpoint(), resumed.read_checkpoint())
    changing = {"name", "train_seconds", "finished"}
    assert_same(*({k: v for k, v in vars(result).items() if k not in changing} for result in results))


@pytest.mark.parametrize("method", NAMES)
def test_every_method_resumes_bit_for_bit(tmp_path, options, method):
    assert_same_run(*train_twice(tmp_path, options, "digits", 2, method=method, batch_size=64))


@pytest.mark.parametrize("ascent", ASCENTS)
def test_every_ascent_resumes_bit_for_bit(tmp_path, options, ascent):
    assert_same_run(*train_twice(tmp_path, options, "digits", 1, ascent=ascent, batch_size=64))


@pytest.mark.parametrize(
    "values",
    [
        {"method": "msam"},
        {"method": "vasso"},
        {"method": "sampa"},
        {"method": "gnm"},
        {"method": "le-sam"},
        {"ascent": "momentum"},
    ],
    ids=lambda values: next(iter(values.values())),
)
def test_what_a_method_remembers_resumes_bit_for_bit_within_an_epoch(tmp_path, options, pets, values):
    assert_same_run(*stopped_within_an_epoch(tmp_path, options, pets, **RESNET, **values))


@pytest.mark.parametrize("base", ["adamw", "muon"])
@pytest.mark.parametrize("killed_after", [1, 3])
@pytest.mark.parametrize("method", ["sam", "imbsam"])
def test_a_method_over_another_base_resumes_bit_for_bit(tmp_path, options, method, killed_after, base):
    assert_same_run(*train_twice(tmp_path, options, "digits", killed_after, method=method, base=base))


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["sam", "imbsam"])
def test_a_resnet_with_batchnorm_resumes_bit_for_bit(tmp_path, pets, options, method, base):
    assert_same_run(*train_twice(tmp_path, options, pets, 2, method=method, base=base, **RESNET))


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "ldam", "reweight_from": 0.5},
        {"schedule": "step", "warmup": 1.5, "method": "sgd"},
        {"sampler": "balanced", "clip_norm": 0.5, "precision": "bfloat16"},
        {"select": "last", "validation_fraction": 0.0, "method": "adamw"},
    ],
)
def test_what_changes_during_a_run_resumes_bit_for_bit(tmp_path, options, values):
    assert_same_run(*train_twice(tmp_path, options, "digits", 2, **values))


def test_dropout_resumes_bit_for_bit(tmp_path, monkeypatch, options):
    (tmp_path / "ours_resume.py").write_text(
        "from torch import nn\n"
        "def net(spec, *, num_classes):\n"
        "    size = spec.channels * spec.height * spec.width\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(size, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert_same_run(*train_twice(tmp_path, options, "digits", 2, model="ours_resume:net"))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, options, monkeypatch):
    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    results = [fit(straight, "digits", options(epochs=2))]
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_checkpoint", lambda self, state: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            fit(resumed, "digits", options(epochs=2))
    # The epoch was in metrics.jsonl and best.safetensors already when the process died.
    assert len(lines_without_seconds(resumed)) == 1
    results.append(fit(resumed, *resumed.read_config()))
    assert_same_run(straight, resumed, results)


def test_a_run_killed_between_the_metrics_and_the_checkpoint_has_no_epoch_twice(tmp_path, options):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Killed):
        fit(run, "digits", options(epochs=3), on_epoch=kill_after(2))
    with run.metrics.open("a") as file:
        file.write('{"epoch": 3, "half a li')
    fit(run, *run.read_config())
    assert [line["epoch"] for line in lines_without_seconds(run)] == [1, 2, 3]


@pytest.fixture
def killed(tmp_path, options):
    """A run with the checkpoint of its first epoch of three."""
    run = RunFolder(tmp_path / "killed")
    with pytest.raises(Killed):
        fit(run, "digits", options(epochs=3), on_epoch=kill_after(1))
    return run


def bytes_of(run):
    return {path.name: path.read_bytes() for path in run.path.iterdir()}


def assert_refused(run, error, told):
    before = bytes_of(run)
    with pytest.raises(error, match=told):
        fit(run, *run.read_config())
    assert bytes_of(run) == before


def damage_by_cutting(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_by_flipping(content: bytes) -> bytes:
    return b"\x00" * 64 + content[64:]


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_flipping, lambda content: b""])
def test_a_damaged_checkpoint_is_refused_and_kept(killed, damage):
    killed.checkpoint.write_bytes(damage(killed.checkpoint.read_bytes()))
    assert_refused(killed, RunError, "last.ckpt is damaged")


def test_a_checkpoint_that_would_run_code_is_refused(killed, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    buffer = io.BytesIO()
    torch.save({"schema": 1, "model": Evil()}, buffer)
    killed.checkpoint.write_bytes(sealed(buffer.getvalue()))
    assert_refused(killed, RunError, "last.ckpt is damaged")
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_another_model_is_refused(killed, tmp_path, options):
    other = RunFolder(tmp_path / "other")
    fit(other, "digits", options(epochs=1, hidden=[7]))
    killed.checkpoint.write_bytes(other.checkpoint.read_bytes())
    assert_refused(killed, RunError, "last.ckpt does not fit this run")


def test_a_checkpoint_of_another_schema_is_refused(killed):
    buffer = io.BytesIO()
    torch.save({**vars(killed.read_checkpoint()), "progress": None, "schema": 2}, buffer)
    killed.checkpoint.write_bytes(sealed(buffer.getvalue()))
    assert_refused(killed, RunError, "another version of imbsam")


def test_a_checkpoint_without_one_of_its_parts_is_refused(killed):
    state = unpacked(killed.checkpoint)
    del state["optimizer"]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    killed.checkpoint.write_bytes(sealed(buffer.getvalue()))
    assert_refused(killed, RunError, "last.ckpt: optimizer: Field required")


@pytest.mark.parametrize("content", ["epochs: [", "epochs: -3", "nonsense: 1", "3"])
def test_a_damaged_config_is_refused(killed, content):
    (killed.path / "config.yaml").write_text(content)
    assert_refused(killed, OptionError, "config.yaml")


def test_data_that_changed_since_are_refused(tmp_path, options):
    source = table(tmp_path / "parts.csv", seed=1)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Killed):
        fit(run, str(source), options(target="kind"), on_epoch=kill_after(1))
    table(source, seed=2)
    assert_refused(run, DataError, "parts.csv has changed since the run was started")


def test_a_run_begun_before_an_option_existed_is_gone_on_with(tmp_path, options, pets):
    chosen = options(epochs=2, **RESNET)
    folder = RunFolder(tmp_path / "a")
    with pytest.raises(Killed):
        fit(folder, str(pets), chosen, on_epoch=kill_after(1))
    later = {"sharp_recall", "flip"}
    used = folder.read_config()[1]
    # As it was written then: the share of the steps was the default, and nothing was waited for.
    assert used.method.sharp_from == pytest.approx(2 / 3)
    config = folder.path / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if line.partition(":")[0] not in later))
    held = folder.read_checkpoint()
    without = {name: value for name, value in held.options.items() if name not in later}
    assert len(without) == len(held.options) - 2
    folder.write_checkpoint(replace(held, options=without))
    assert fit(folder, *folder.read_config()).epochs == 2
