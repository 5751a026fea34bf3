"""A run on a device of its own: trained, averaged, resumed, measured and opened as one on the CPU."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch

from device.simulated import OnDevice
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.retraining import retrain
from imbsam.runs.retraining_options import RetrainingOptions
from imbsam.runs.sharpness import RunSharpness
from imbsam.runs.sharpness_options import SharpnessOptions
from imbsam.runs.trained import Trained
from imbsam.training.methods import NAMES
from runs.test_resume import Killed, kill_after

RESNET = {"model": "resnet20", "width": 0.25, "batch_size": 64, "augment": "cifar"}
EMA = {"average": "ema", "average_decay": 0.9}
RUNS = {
    "digits": {},
    "table": {**EMA, "target": "kind"},
    "BatchNorm": {**RESNET, **EMA, "clip_norm": 1.0},
    "re-weighted late": {"loss": "ldam", "reweight_from": 0.5},
    "logit adjustment": {"loss": "logit-adjustment", "sampler": "balanced"},
}


def run_on(device, folder, options, source="digits", **values):
    chosen = options(**{"epochs": 1, "device": str(device), **values})
    fit(RunFolder(folder), str(source), chosen, label="a")
    return RunFolder(folder)


def assert_same_run(found, expected):
    weights = expected.read_weights()
    for name, tensor in found.read_weights().items():
        torch.testing.assert_close(tensor, weights[name], msg=lambda text, name=name: f"{name}: {text}")
    measured, wanted = found.read_result().test, expected.read_result().test
    assert measured.balanced == pytest.approx(wanted.balanced, abs=1e-6)
    assert measured.log_loss == pytest.approx(wanted.log_loss, rel=1e-5)


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_is_that_of_the_cpu(simulated, tmp_path, options, parts_csv, kind):
    source = parts_csv if kind == "table" else "digits"
    runs = [run_on(device, tmp_path / str(device), options, source, **RUNS[kind]) for device in ("cpu", simulated)]
    assert_same_run(runs[1], runs[0])


@pytest.mark.parametrize("method", NAMES)
def test_every_method_trains(simulated, tmp_path, options, method):
    values = {"method": method, "hidden": [8], "batch_size": 256}
    runs = [run_on(device, tmp_path / str(device), options, **values) for device in ("cpu", simulated)]
    assert_same_run(runs[1], runs[0])


def test_a_resumed_run_is_the_uninterrupted_one(simulated, tmp_path, options):
    values = {"epochs": 3, **EMA, "hidden": [8]}
    straight = run_on(simulated, tmp_path / "straight", options, **values)
    resumed, chosen = RunFolder(tmp_path / "resumed"), options(device="simulated", **values)
    with pytest.raises(Killed):
        fit(resumed, "digits", chosen, label="a", on_epoch=kill_after(1))
    fit(resumed, *resumed.read_config(), label="a")
    for name, tensor in resumed.read_weights().items():
        assert torch.equal(tensor, straight.read_weights()[name]), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from imbsam.config import Options

    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(RunFolder(folder), "digits", Options().updated({"epochs": 2, "hidden": [8], "threads": 1, "track": "none"}))
    return folder


def test_a_run_opened_there_says_what_it_says_on_the_cpu(simulated, trained, tmp_path):
    there, here = (Trained.open(trained, device=str(device)) for device in (simulated, "cpu"))
    assert isinstance(next(there.model.parameters()).detach(), OnDevice)
    for tta in ("none", "flip"):
        found, expected = (run.averaged_over(tta).evaluate() for run in (there, here))
        assert found.per_class == expected.per_class
        assert found.log_loss == pytest.approx(expected.log_loss, rel=1e-6)
    for run, name in ((there, "there.csv"), (here, "here.csv")):
        run.predict("digits", tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "here.csv").read_text()


@pytest.mark.parametrize("how", ["crt", "tau-norm", "smoothed"])
def test_a_second_stage_is_that_of_the_cpu(simulated, trained, tmp_path, how):
    made = []
    for device in ("cpu", "simulated"):
        first = shutil.copytree(trained, tmp_path / f"first-{device}")
        retrain(
            first,
            tmp_path / device,
            RetrainingOptions(how, **{} if how == "tau-norm" else {"epochs": 1}),
            device=device,
        )
        made.append(RunFolder(tmp_path / device))
    assert_same_run(made[1], made[0])


def test_sharpness_is_that_of_the_cpu(simulated, trained, tmp_path):
    options = SharpnessOptions(rows=3, iterations=3, probes=2, points=3, plane_points=3)
    found = []
    for device in ("cpu", "simulated"):
        run = shutil.copytree(trained, tmp_path / device)
        found.append(RunSharpness(run, options, device=device).measure())
    cpu, device = (json.loads(json.dumps(asdict(record.measured))) for record in found)
    for name, measure in cpu.items():
        assert flat(device[name]["found"]) == pytest.approx(flat(measure["found"]), rel=1e-3, abs=1e-6), name


def flat(value):
    """Every number in there, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    if isinstance(value, list):
        return [number for each in value for number in flat(each)]
    return [value] if isinstance(value, int | float) else []
