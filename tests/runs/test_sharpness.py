import json
import shutil
from dataclasses import replace

import pytest
import torch

from imbsam.config import Options
from imbsam.errors import DataError, OptionError, RunError
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.sharpness import RunSharpness
from imbsam.runs.sharpness_options import SharpnessOptions

SMALL = {"rows": 3, "iterations": 3, "probes": 2, "points": 3, "plane_points": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = Options().updated({"epochs": 2, "hidden": [8], "threads": 1, "track": "none"})
    fit(RunFolder(folder), "digits", options)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def measured(run, **options):
    return RunSharpness(run, SharpnessOptions(**{**SMALL, **options}), device="cpu")


def test_every_measure_has_every_group_and_class(run):
    sharpness = measured(run)
    content = sharpness.measure()
    everyone = {*map(str, range(10)), *content.parts}
    assert {"overall", "few", "head", "tail"} <= everyone
    for name in ("spectrum", "trace", "sam"):
        assert set(getattr(content.measured, name).found) == everyone
    assert len(content.measured.plane.found) == 3
    assert content.drawn == tuple(min(3, size) for size in content.sizes)
    assert content.sizes == content.counts


def test_what_is_measured_is_not_measured_again(run):
    first = measured(run)
    first.measure()
    again = measured(run)
    assert again.todo() == []
    assert again.measure() == first.record
    assert again.surface.forwarded == 0


def test_a_measure_with_other_options_is_made_again_and_the_others_are_kept(run):
    measured(run).measure()
    assert {step.measure for step in measured(run, probes=3).todo()} == {"trace"}
    assert {step.measure for step in measured(run, rho=0.7).todo()} == {"sam"}


@pytest.mark.parametrize("options", [{"rows": 2}, {"seed": 1}, {"float64": True}, {"epoch": "last"}])
def test_other_rows_or_weights_begin_anew(run, options):
    measured(run, measures=("trace",)).measure()
    held = RunFolder(run).read_checkpoint()
    RunFolder(run).write_checkpoint(replace(held, model={name: t + 0.01 for name, t in held.model.items()}))
    assert len(measured(run, measures=("trace",), **options).todo()) == 10
    assert measured(run, measures=("trace",)).todo() == []


def test_a_damaged_file_is_named_with_what_is_wrong(run):
    path = RunFolder(run).sharpness("train")
    path.write_text(json.dumps({"schema": 1, "name": "run"}))
    with pytest.raises(RunError, match=r"sharpness-train\.json: label: Field required"):
        measured(run)


def test_an_interrupted_measurement_goes_on_where_it_was(run):
    whole = measured(run, seed=1).measure()
    (run / "sharpness-train.json").unlink()
    stopped, told = measured(run, seed=1), []
    everything = len(stopped.todo())

    def stop(what, done, total):
        told.append((what, done, total))
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.measure(stop)
    rest = measured(run, seed=1)
    assert len(rest.todo()) == everything - 4
    assert rest.measure() == whole


def test_parts_of_the_same_classes_are_measured_once(run):
    sharpness = measured(run, measures=("spectrum",))
    parts = [frozenset(part) for part in sharpness.groups.values()]
    assert len(set(parts)) < len(parts)
    assert len(sharpness.todo()) == len(set(parts) | {frozenset([c]) for c in range(10)})


def test_the_rows_announced_are_those_forwarded_by_lines_and_planes(run):
    sharpness = measured(run, measures=("line", "plane"))
    announced = sum(step.rows for step in sharpness.todo())
    sharpness.measure()
    assert sharpness.surface.forwarded == announced


def test_classes_without_rows_in_the_split_are_told_and_left_out(tmp_path):
    lines = [f"{n},{n % 7},{'rare' if n in (5, 60) else 'odd' if n % 2 else 'even'}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *lines]))
    options = {"target": "kind", "epochs": 1, "hidden": [4], "threads": 1, "track": "none"}
    fit(RunFolder(tmp_path / "run"), str(tmp_path / "t.csv"), Options().updated({**options, "method": "imbsam"}))
    sharpness = measured(tmp_path / "run", split="validation", measures=("sam",))
    assert sharpness.without_rows == ["rare"]
    found = sharpness.measure().measured.sam.found
    rare = sharpness.record.classes.index("rare")
    assert set(found) == {"overall", "medium", "head", *(str(c) for c in range(3) if c != rare)}


def test_a_run_without_validation_data_is_told_to_use_training_data(tmp_path):
    options = {"epochs": 1, "hidden": [4], "threads": 1, "track": "none", "validation_fraction": 0.0}
    fit(RunFolder(tmp_path), "digits", Options().updated(options))
    with pytest.raises(DataError, match="has no validation data"):
        measured(tmp_path, split="validation")


def test_directions_along_eigenvectors_bend_as_the_eigenvalue_says(run):
    options = {"along": "tail", "span": 0.01, "iterations": 40, "float64": True, "measures": ("line", "spectrum")}
    content = measured(run, **options).measure()
    line, shares = content.measured.line.found["line"], torch.tensor(content.sizes).double()
    tail = list(content.parts["tail"])
    low, middle, high = (sum(row[c] * shares[c] for c in tail) / shares[tail].sum() for row in line.losses)
    bend = float((low - 2 * middle + high) / 0.01**2)
    assert bend == pytest.approx(content.measured.spectrum.found["tail"].largest, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ("spectrum", "shape")}, "--measures: input should be 'spectrum', .* got 'shape'"),
        ({"measures": ()}, "--measures: tuple should have at least 1 item"),
        ({"rows": 0}, "--rows: input should be greater than or equal to 1; got 0"),
        ({"plane_points": 4}, "--plane-points: must be odd, so that the weights"),
        ({"span": 0.0}, "--span: input should be greater than 0"),
        ({"rho": float("inf")}, "--rho: input should be a finite number"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        RunSharpness(tmp_path / "nowhere", SharpnessOptions(**options))
