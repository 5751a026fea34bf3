"""Outputs averaged over an image and its mirror, where that is asked for."""

import csv

import pytest
import torch

from imbsam import data
from imbsam.errors import OptionError
from imbsam.runs.trained import Trained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from imbsam.config import Options
    from imbsam.runs.fit import fit
    from imbsam.runs.folder import RunFolder

    folder = tmp_path_factory.mktemp("run")
    chosen = {"epochs": 2, "track": "none", "threads": 1, "method": "imbsam"}
    fit(RunFolder(folder), "digits", Options().updated(chosen))
    return folder


def mean_over_mirrors(trained, samples):
    x = data.evaluation_transform(trained.spec)(samples.batch(torch.arange(len(samples))), None)
    with torch.no_grad():
        return (trained.model.eval()(x).double() + trained.model(x[..., range(x.shape[-1] - 1, -1, -1)]).double()) / 2


def test_flip_is_the_mean_of_the_logits_of_an_image_and_its_mirror(run):
    trained = Trained.open(run)
    samples, _ = data.load_like("digits", trained.preprocess)
    found = trained.averaged_over("flip").outputs(samples)
    torch.testing.assert_close(found.double(), mean_over_mirrors(trained, samples), rtol=0, atol=1e-5)
    assert not torch.equal(found, trained.outputs(samples))
    assert torch.equal(trained.averaged_over("none").outputs(samples), trained.outputs(samples))


def test_evaluation_and_predictions_take_it(run, tmp_path):
    trained = Trained.open(run)
    flipped = trained.averaged_over("flip")
    assert flipped.evaluate().log_loss != trained.evaluate().log_loss
    samples, _ = data.load_like("digits", trained.preprocess)
    flipped.predict("digits", tmp_path / "p.csv")
    chosen = flipped.posterior.scores(mean_over_mirrors(trained, samples)).argmax(dim=1)
    with (tmp_path / "p.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == [trained.classes[i] for i in chosen]


def test_a_table_has_no_mirror(tmp_path, train, parts_csv):
    train(tmp_path, parts_csv, target="kind")
    with pytest.raises(OptionError, match="--tta flip is for images, but the run is of a table"):
        Trained.open(tmp_path).averaged_over("flip")
