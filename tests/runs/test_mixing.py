"""Runs on mixed images, smoothed targets and repeated classes."""

import pytest

from imbsam.cli import main
from imbsam.errors import OptionError
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.loop import Training
from imbsam.training.methods import NAMES
from runs.test_resume import RESNET, assert_same_run, stopped_within_an_epoch

MIXED = {"mix": "both", "label_smoothing": 0.1}


@pytest.mark.parametrize("more", [{}, {"sampler": "repeated", "workers": 1}], ids=["once", "repeated"])
def test_a_run_stopped_within_an_epoch_resumes_bit_for_bit(tmp_path, options, pets, more):
    assert_same_run(*stopped_within_an_epoch(tmp_path, options, pets, **RESNET, **MIXED, **more))


@pytest.mark.parametrize("method", NAMES)
def test_every_method_trains_on_mixed_rows(tmp_path, train, method):
    result = train(tmp_path, "digits", epochs=1, method=method, hidden=[16], **MIXED)
    assert result.test.balanced > 0


@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "class-balanced", "balanced-softmax", "vs"])
def test_every_loss_but_ldam_takes_mixed_rows_and_late_weights(tmp_path, train, loss):
    train(tmp_path, "digits", epochs=2, hidden=[16], loss=loss, reweight_from=0.5, **MIXED)


def test_mixing_ends_where_it_is_told_to(tmp_path, options, monkeypatch):
    seen = []
    original = Training._step

    def step(training, inputs, targets):
        seen.append((training.progress.epoch, targets.ndim))
        return original(training, inputs, targets)

    monkeypatch.setattr(Training, "_step", step)
    fit(RunFolder(tmp_path), "digits", options(mix="mixup", mix_until=0.5, epochs=4))
    assert {(epoch, ndim) for epoch, ndim in seen} == {(0, 2), (1, 2), (2, 1), (3, 1)}


def test_the_loss_of_an_epoch_is_that_of_its_rows(tmp_path, train):
    """Not of the training samples, of which a repeated sampler gives more."""
    lines = []
    train(tmp_path, "digits", epochs=1, sampler="repeated", loss="cross-entropy", lr=1e-9, on_epoch=lines.append)
    assert 2.0 < lines[0].train_loss < 3.0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"mix": "cutmix", "method": "cc-sam", "method_options": ["classifier=classifier"]},
            "classifier=... takes images of a single class, but --mix cutmix",
        ),
        ({"mix": "mixup", "loss": "ldam"}, "--loss ldam has a margin for a single class, but --mix mixup"),
        ({"label_smoothing": 0.1, "loss": "ldam"}, "but --label-smoothing 0.1 gives an image several"),
        ({"mix_alpha": 0.2}, "--mix-alpha needs mixed images"),
        ({"mix_until": 0.2}, "--mix-until needs mixed images"),
        ({"repeat_threshold": 0.2}, "--repeat-threshold needs a sampler"),
        (
            {"label_smoothing": 0.1, "loss": "cross-entropy", "loss_options": ["label-smoothing=0.1"]},
            "are the same option: give only one",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, train, values, told):
    with pytest.raises(OptionError, match=told):
        train(tmp_path / "run", "digits", **values)
    assert not (tmp_path / "run").exists()


def test_tables_are_not_mixed(tmp_path, parts_csv, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(parts_csv), "--target", "kind", "--mix", "mixup", "--out", str(tmp_path / "run")])
    assert "--mix mixup is for images" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"sampler": "balanced"}, {"label_smoothing": 0.1}, {"sharp_from": 0.5}])
def test_a_blend_takes_no_option_of_a_network(tmp_path, train, parts_csv, values):
    with pytest.raises(OptionError, match=f"takes no --{next(iter(values)).replace('_', '-')}: its members"):
        train(tmp_path, parts_csv, target="kind", method="blend", **values)
