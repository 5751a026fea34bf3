"""The page of capacity says what the formulas say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from imbsam.optim import METHODS

HOOK = Path(__file__).parents[2] / "docs" / "hooks" / "capacity_tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity_tables", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_is_rendered(tables: ModuleType) -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.rendered(page) == page
    for name in METHODS:
        assert page.count(f"| {name} |") >= 3


def test_the_numbers_of_imagenet_lt_are_these(tables: ModuleType) -> None:
    load = tables.IMAGENET_LT
    assert load.tail_share == pytest.approx(0.01418, abs=1e-5)
    assert load.size == 4 * 25_557_032
    t, s = load.tail_share, 1 - (1 - load.tail_share) ** 256
    assert load.ratio("imbsam") == pytest.approx((32 + 2 * (32 * t / s + 8)) / 32)
    assert load.ratio("imbsam", "alone") == pytest.approx(1 + t / s)
    assert load.ratio("sam") == 2
    assert load.ratio("focal-sam") == 3


def test_parameters_and_activations_are_those_of_a_resnet_50(tables: ModuleType) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
    assert sum(p.numel() for p in model.parameters()) == tables.RESNET50 + 2049 * 1000

    def kept(rows: int) -> int:
        storages = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(torch.randn(rows, 3, 224, 224))
        assert out is not None
        return sum(size for size, _ in storages.values())

    assert kept(2) - kept(1) == tables.ACTIVATIONS
