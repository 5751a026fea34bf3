"""Fine-tuning from a local file in torchvision's layout: its backbone, and a classifier of our own classes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from runs.torchvision_layout import ResNet18

MODEL = {"model": "runs.torchvision_layout:resnet18", "batch_size": 32}
LEFT_OUT = pytest.mark.filterwarnings("ignore:the classifier in .* does not fit and is left out:UserWarning")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``torch.save(torchvision.models.resnet18(...).state_dict())`` leaves it, of 1000 classes."""
    torch.manual_seed(0)
    model = ResNet18(1, 1000)
    model(torch.randn(16, 1, 8, 8))
    with torch.no_grad():
        for shift in (p for name, p in model.named_parameters() if name.endswith("bias")):
            shift.normal_()
    state = model.state_dict()
    # The names of torchvision's own file: 20 convolutions, 20 BatchNorms of 5 tensors, the classifier.
    assert len(state) == 122
    assert {"conv1.weight", "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias", "fc.weight"} < set(state)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path


def backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def test_the_backbone_is_that_of_the_file_and_the_classifier_starts_anew(
    tmp_path: Path, pretrained: Path, train
) -> None:
    still = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0, "method": "sgd"}
    with pytest.warns(
        UserWarning, match=r"left out: it has fc\.weight \(1000, 64\), .* the model fc\.weight \(10, 64\)"
    ):
        train(tmp_path / "run", weights=pretrained, **MODEL, **still)
    saved, given = load_file(tmp_path / "run" / "best.safetensors"), torch.load(pretrained)
    assert saved["fc.weight"].shape == (10, 64)
    learnt = [name for name in backbone(given) if "running_" not in name and "num_batches" not in name]
    assert len(learnt) == 60
    assert all(torch.equal(saved[name], given[name]) for name in learnt)


@LEFT_OUT
@pytest.mark.parametrize("method", ["imbsam", "sam"])
def test_fine_tuning_moves_the_backbone_and_is_the_same_when_it_is_repeated(
    method: str, tmp_path: Path, pretrained: Path, train
) -> None:
    states = []
    for name in ("once", "again"):
        train(tmp_path / name, weights=pretrained, method=method, imbalance=20, epochs=1, lr=0.02, **MODEL)
        states.append(load_file(tmp_path / name / "best.safetensors"))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    given = torch.load(pretrained)
    moved = [name for name in backbone(given) if name.endswith(("weight", "bias"))]
    assert all(not torch.equal(states[0][name], given[name]) for name in moved)
    assert all(bool(value.isfinite().all()) for value in states[0].values())
