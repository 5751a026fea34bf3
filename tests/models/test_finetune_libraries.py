"""Models of torchvision and timm, where they are installed; their weights are stood in for by random ones on disk."""

import pytest
import torch

from imbsam import models
from imbsam.inputs import ImageSpec
from imbsam.models.pretrained import expected_inputs

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RGB = ImageSpec(3, 224, 224, *IMAGENET)


def tuned(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def check(name, weights, *, tune):
    torch.save(weights, path := name[1] / "weights.pt")
    model = models.build(name[0], RGB, num_classes=5, weights=path, finetune=models.FineTune(tune))
    x = torch.randn(2, 3, 224, 224)
    model.eval()
    first = model(x)
    assert first.shape == (2, 5)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    # The bare structure takes the weights of a run's folder.
    again = models.build(name[0], RGB, num_classes=5, finetune=models.FineTune(tune, pretrained=False))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(x), first)
    return tuned(model)


@pytest.mark.parametrize(("name", "tune"), [("resnet18", "last"), ("vit_b_16", "lora"), ("swin_t", "lora")])
def test_torchvision(name, tune, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    given = torchvision.models.get_model(name, weights=None).state_dict()
    found = check((f"torchvision:{name}", tmp_path), given, tune=tune)
    assert any("up.weight" in place for place in found) == (tune == "lora")
    expected = expected_inputs(f"torchvision:{name}")
    assert (expected.mean, expected.std, expected.size) == (*IMAGENET, 224)


@pytest.mark.parametrize(("name", "tune"), [("resnet18", "last"), ("vit_tiny_patch16_224", "lora")])
def test_timm(name, tune, tmp_path):
    timm = pytest.importorskip("timm")
    given = timm.create_model(name, pretrained=False).state_dict()
    found = check((f"timm:{name}", tmp_path), given, tune=tune)
    assert any("up.weight" in place for place in found) == (tune == "lora")
    config = timm.get_pretrained_cfg(name)
    expected = expected_inputs(f"timm:{name}")
    assert (expected.mean, expected.std, expected.size) == (config.mean, config.std, config.input_size[-1])
