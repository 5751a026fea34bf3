import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.errors import ModelError
from imbsam.inputs import ImageSpec
from imbsam.models.finetune import SCALE, tuned_parameters
from imbsam.models.pretrained import Expected, expected_inputs

RGB = ImageSpec(3, 16, 16, (0.5,) * 3, (0.25,) * 3)
VIT = "models.tiny_vit:vit"


def build(name="resnet20", **chosen):
    values = {"width": 0.25} if name == "resnet20" else {}
    return models.build(name, RGB, num_classes=5, finetune=models.FineTune(**chosen), **values)


def tuned(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "head"), [("resnet20", "classifier"), (VIT, "head")])
def test_the_last_layer_alone_is_tuned(name, head):
    assert tuned(build(name, tune="last")) == {f"network.{head}.weight"}


@pytest.mark.parametrize(("name", "head"), [("resnet20", "classifier"), (VIT, "head")])
def test_adapters_and_the_head_are_tuned(name, head):
    model = build(name, tune="lora", rank=2)
    others = tuned(model) - {f"network.{head}.weight"}
    assert others
    assert all(place.endswith(("down.weight", "up.weight")) for place in others)
    some, total = tuned_parameters(model)
    assert 0 < some < total


def test_everything_is_tuned():
    model = build(tune="all")
    assert tuned(model) == {name for name, _ in model.named_parameters()}
    assert all(m.training for m in model.modules())


def test_by_default_models_with_linear_layers_get_adapters_and_others_a_head():
    assert any("up.weight" in name for name in tuned(build(VIT)))
    assert tuned(build("resnet20")) == {"network.classifier.weight"}


@pytest.mark.parametrize("tune", ["lora", "last"])
def test_frozen_batch_norm_normalises_by_its_running_statistics_in_training(tune):
    model = build(tune=tune)
    model.eval().train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    x = torch.randn(8, 3, 16, 16)
    out = model(x)
    assert before
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert torch.equal(out, model.eval()(x))


@pytest.mark.parametrize("name", ["resnet20", VIT])
def test_the_features_start_as_those_of_the_pretrained_model_bit_for_bit(name, tmp_path):
    values = {"width": 0.25} if name == "resnet20" else {}
    pretrained = models.build(name, RGB, num_classes=9, **values)
    torch.save(pretrained.state_dict(), tmp_path / "weights.pt")
    model = models.build(
        name, RGB, num_classes=5, weights=tmp_path / "weights.pt", finetune=models.FineTune("lora"), **values
    ).eval()
    seen, heads = [], (model.head, pretrained.get_submodule("classifier" if name == "resnet20" else "head"))
    for head in heads:
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 16, 16)
    model(x), pretrained.eval()(x)
    assert torch.equal(*seen)


def test_logits_are_scaled_cosines_and_bare_ones_under_ldam():
    x = torch.randn(2, 3, 16, 16)
    model = build().eval()
    bare = models.build("resnet20", RGB, num_classes=5, width=0.25, finetune=models.FineTune(), cosine_classifier=True)
    assert model.head.scale == SCALE
    assert bare.head.scale == 1
    assert 1 < model(x).abs().max() <= SCALE


def test_a_model_without_one_last_layer_is_refused(module_folder):
    (module_folder / "two.py").write_text(
        "from torch import nn\n"
        "def net(spec, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes), nn.Linear(num_classes, num_classes))\n"
    )
    with pytest.raises(ModelError, match="unclear what the head is"):
        models.build("two:net", RGB, num_classes=5, finetune=models.FineTune())


def test_a_callable_says_what_its_weights_expect():
    found = expected_inputs("models.tiny_vit:vit_of_photographs")
    assert (found.mean, found.std, found.size) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 12)
    assert expected_inputs(VIT) == expected_inputs("resnet20") == Expected()


def test_nonsense_of_a_callable_is_an_error(monkeypatch):
    from models import tiny_vit

    monkeypatch.setattr(tiny_vit.vit_of_photographs, "pretrained_cfg", {"mean": "grey"})
    with pytest.raises(ModelError, match="cannot find out which images the model"):
        expected_inputs("models.tiny_vit:vit_of_photographs")


def test_heads_are_replaced_whatever_they_were():
    assert isinstance(build(VIT).network.head, models.CosineClassifier)
    assert not isinstance(models.build(VIT, RGB, num_classes=5).head, models.CosineClassifier)
    assert isinstance(models.build(VIT, RGB, num_classes=5).head, nn.Linear)
