"""Fine-tuning runs: what moves, and that the folder alone is enough afterwards."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imbsam.cli import main
from imbsam.runs.export import export
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained
from tiny_data import image_folder

VIT = "models.tiny_vit:vit"
QUICK = {"finetune": True, "batch_size": 16, "epochs": 2, "select": "last"}
MODELS = {"vit": {"model": VIT}, "resnet": {"model": "resnet20", "width": 0.25}}
TUNES = [("vit", "lora"), ("vit", "last"), ("resnet", "lora"), ("resnet", "last")]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Other classes than those that are fine-tuned for."""
    return image_folder(tmp_path_factory.mktemp("data") / "shapes", {"cat": 20, "dog": 16, "eel": 12, "fox": 10})


@pytest.fixture
def weights(tmp_path, shapes, train):
    """Weights pretrained in a moment."""

    def make(name: str) -> Path:
        train(tmp_path / "pretrained", shapes, batch_size=16, lr=0.02, method="sgd", **MODELS[name])
        shutil.copy(tmp_path / "pretrained" / "best.safetensors", tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"

    return make


@pytest.mark.parametrize(("name", "tune"), TUNES)
def test_the_pretrained_weights_stay_and_the_tuned_ones_move(name, tune, tmp_path, pets, train, weights):
    file = weights(name)
    train(tmp_path / "run", pets, weights=file, tune=tune, **QUICK, **MODELS[name])
    given, saved = load_file(file), load_file(tmp_path / "run" / "best.safetensors")
    head = "head." if name == "vit" else "classifier."
    backbone = {name: value for name, value in given.items() if not name.startswith(head)}
    for place, value in backbone.items():
        layer, _, leaf = place.rpartition(".")
        kept = saved.get(f"network.{place}", saved.get(f"network.{layer}.base.{leaf}"))
        assert torch.equal(kept, value), place
    ups = [value for place, value in saved.items() if place.endswith("up.weight")]
    assert bool(ups) == (tune == "lora")
    assert all(bool(value.any()) for value in ups)


@pytest.mark.parametrize(
    "values", [{"method": "sam"}, {"method": "sgd"}, {"method": "adamw"}, {"precision": "bfloat16"}, {"loss": "ldam"}]
)
def test_methods_precision_and_losses_go_with_it(values, tmp_path, pets, train, weights):
    result = train(tmp_path / "run", pets, weights=weights("vit"), **{**QUICK, **MODELS["vit"], **values})
    assert result.test is not None
    assert any(note.startswith("fine-tuned: ") for note in result.notes)


def test_everything_can_be_tuned(tmp_path, pets, train, weights):
    file = weights("resnet")
    train(tmp_path / "run", pets, weights=file, tune="all", **QUICK, **MODELS["resnet"])
    given, saved = load_file(file), load_file(tmp_path / "run" / "best.safetensors")
    assert not torch.equal(saved["network.stem.weight"], given["stem.weight"])
    assert not torch.equal(saved["network.stem_norm.running_mean"], given["stem_norm.running_mean"])


@pytest.mark.parametrize("name", MODELS)
def test_the_folder_is_enough_to_evaluate_predict_and_export(name, tmp_path, pets, train, weights):
    file = weights(name)
    result = train(tmp_path / "run", pets, weights=file, **QUICK, **MODELS[name])
    file.unlink()
    trained = Trained.open(tmp_path / "run", model=VIT)
    assert trained.evaluate().balanced == result.test.balanced
    further = image_folder(tmp_path / "further", seed=1)
    count, _ = trained.predict(str(further), tmp_path / "out.csv")
    assert count == 42
    assert export(trained, tmp_path / "model.pt2") < 1e-4


@pytest.mark.parametrize(("name", "tune"), [("vit", "lora"), ("resnet", "lora")])
def test_a_resumed_run_needs_no_weights_file_and_equals_the_uninterrupted_one(
    name, tune, tmp_path, pets, train, options, weights
):
    file = weights(name)
    values = {"weights": file, "tune": tune, **QUICK, **MODELS[name]}
    train(tmp_path / "whole", pets, **values)

    class EndError(Exception):
        pass

    def end(_):
        raise EndError

    with pytest.raises(EndError):
        train(tmp_path / "halted", pets, on_epoch=end, **values)
    file.unlink()
    fit(RunFolder(tmp_path / "halted"), str(pets), options(**values))
    whole, resumed = (load_file(tmp_path / run / "best.safetensors") for run in ("whole", "halted"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[place], resumed[place]) for place in whole)


def test_images_are_read_as_the_model_expects_ever_after(tmp_path, pets, train):
    train(tmp_path / "run", pets, model="models.tiny_vit:vit_of_photographs", **QUICK)
    spec = Trained.open(tmp_path / "run", model="models.tiny_vit:vit_of_photographs").spec
    assert (spec.height, spec.mean, spec.std) == (12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_fine_tuning_without_weights_ends_with_2(pets, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", str(pets), "--finetune", "--model", "resnet20", "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "--model resnet20 has none: give --weights FILE" in capsys.readouterr().err


def test_a_folder_of_hugging_face_is_fine_tuned_and_not_needed_afterwards(tmp_path, pets, train, options):
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=7, **shape)
    folder = tmp_path / "vit"
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    processor = {"do_normalize": True, "image_mean": [0.4] * 3, "image_std": [0.3] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    given = load_file(folder / "model.safetensors")
    result = train(tmp_path / "run", pets, model=str(folder), **QUICK)
    shutil.rmtree(folder)
    trained = Trained.open(tmp_path / "run")
    assert (trained.spec.height, trained.spec.mean, trained.spec.std) == (16, (0.4,) * 3, (0.3,) * 3)
    assert trained.evaluate().balanced == result.test.balanced
    saved = load_file(tmp_path / "run" / "best.safetensors")
    assert torch.equal(saved["network.network.vit.embeddings.cls_token"], given["vit.embeddings.cls_token"])
    assert any("up.weight" in place for place in saved)
