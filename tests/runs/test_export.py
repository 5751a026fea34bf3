import dataclasses
import json
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from imbsam import data
from imbsam.config import DecisionOptions, Options
from imbsam.errors import OptionError, RunError
from imbsam.runs.export import export, sample
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained

TABLE = {"target": "kind", "epochs": 1, "batch_size": 16, "few_below": 25, "many_above": 40}


def table(path):
    draw = np.random.default_rng(0)
    kind = np.repeat(["usual", "rare"], [60, 24])
    size = draw.normal(size=84) * 1e6 + (kind == "rare")
    size[::7] = np.nan
    frame = pd.DataFrame({"colour": draw.choice(["red", "blue"], 84), "size": size, "age": draw.integers(1, 90, 84)})
    frame.assign(kind=kind).to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name, source, options in (
        ("images", "digits", {"epochs": 1}),
        ("cosines", "digits", {"epochs": 1, "loss": "ldam"}),
        ("table", table(folder / "table.csv"), TABLE),
    ):
        fit(RunFolder(folder / name), source, Options().updated({**options, "threads": 1}))
        made[name] = Trained.open(folder / name, device="cpu")
    return made


def run_onnx(path, rows):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return tuple(map(torch.from_numpy, session.run(None, {"samples": rows.numpy()})))


def check_same(found, trained, samples):
    """Logits, probabilities and classes are those of the run, and one follows from the other."""
    logits, probabilities, classes = found
    outputs = trained.outputs(samples)[: len(logits)]
    expected = trained.posterior.log_probabilities(outputs).exp().float()
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits.softmax(dim=1), probabilities, rtol=1e-4, atol=1e-5)
    assert torch.equal(classes, trained.posterior.scores(outputs).argmax(dim=1))


@pytest.mark.parametrize("name", ["images", "cosines"])
def test_images_give_the_probabilities_and_classes_of_the_run(runs, tmp_path, name):
    trained = runs[name]
    export(trained, tmp_path / "model.onnx")
    export(trained, tmp_path / "model.pt2")
    samples, _ = data.load_like("digits", trained.preprocess)
    raw = samples.batch(torch.arange(7))
    check_same(run_onnx(tmp_path / "model.onnx", raw), trained, samples)
    check_same(torch.export.load(tmp_path / "model.pt2").module()(raw), trained, samples)


def test_rows_as_they_are_in_the_table_give_the_probabilities_of_the_run(runs, tmp_path):
    trained = runs["table"]
    export(trained, tmp_path / "model.onnx")
    about = json.loads((tmp_path / "model.onnx.json").read_text())["input"]
    colour = about["columns"][2]
    assert [column["name"] for column in about["columns"]] == ["size", "age", "colour"]
    frame = pd.read_csv(trained.source)[:9]
    codes = frame["colour"].map(colour["codes"]).astype(float)
    raw = torch.tensor(np.stack([frame["size"], frame["age"], codes], axis=1))
    assert raw.isnan().any()
    frame.to_csv(tmp_path / "further.csv", index=False)
    samples = data.load_like(str(tmp_path / "further.csv"), trained.preprocess)[0]
    check_same(run_onnx(tmp_path / "model.onnx", raw), trained, samples)
    export(trained, tmp_path / "model.pt2")
    check_same(torch.export.load(tmp_path / "model.pt2").module()(raw), trained, samples)


def test_the_class_prior_asked_for_goes_before_that_of_the_run(runs, tmp_path):
    trained = runs["images"]
    rows = sample(trained, 40)
    found = {}
    for asked in ("training", "balanced"):
        export(trained.decided(DecisionOptions((asked,))), tmp_path / "model.onnx")
        logits, probabilities, classes = run_onnx(tmp_path / "model.onnx", rows)
        assert torch.equal(classes, probabilities.argmax(dim=1))
        told = json.loads((tmp_path / "model.onnx.json").read_text())["class_prior_of_probabilities"]
        found[asked] = logits, torch.tensor(told).float()
    logits, shares = found["training"]
    expected = found["balanced"][0] + shares.log()
    torch.testing.assert_close(logits.log_softmax(dim=1), expected.log_softmax(dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shares, trained.priors.priors.float())


def test_thresholds_for_what_is_wanted_are_inside(runs, tmp_path):
    trained = runs["table"].decided(DecisionOptions(("training",), ("recall:rare=1",)))
    export(trained, tmp_path / "model.onnx")
    rows = sample(trained, 40)
    _, probabilities, classes = run_onnx(tmp_path / "model.onnx", rows)
    weights = torch.tensor(json.loads((tmp_path / "model.onnx.json").read_text())["weights_of_decision"])
    assert torch.equal(classes, (probabilities * weights).argmax(dim=1))
    assert weights[trained.classes.index("rare")] != 1


def test_another_suffix_is_refused(runs, tmp_path):
    with pytest.raises(OptionError, match=r"\.onnx or \.pt2"):
        export(runs["images"], tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_other_probabilities_is_not_kept(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("imbsam.runs.export._run_onnx", lambda content, rows: torch.full((len(rows), 10), 0.1))
    with pytest.raises(RunError, match="nothing was written"):
        export(runs["images"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_traced_is_a_named_error(runs, tmp_path, monkeypatch):
    class Branching(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs.flatten(1) if inputs.sum() > 0 else -inputs.flatten(1))

    branching = dataclasses.replace(runs["images"], model=Branching(64, 10))
    with pytest.raises(RunError, match=r"torch\.export cannot trace"):
        export(branching, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_says_what_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"imbsam\[onnx\]"):
        export(runs["images"], tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["data", "result"])
def test_a_model_named_like_a_file_of_the_run_does_not_replace_it(runs, tmp_path, name):
    held = tmp_path / f"{name}.json"
    held.write_text("{}")
    export(runs["images"], tmp_path / f"{name}.pt2")
    assert held.read_text() == "{}"
    assert json.loads((tmp_path / f"{name}.pt2.json").read_text())["classes"] == list(runs["images"].classes)
