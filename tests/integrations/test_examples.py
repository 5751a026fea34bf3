"""Every example runs, and those that train the digits' network end at the weights of the plain loop."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState, PartialState

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
]


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()


def example(name: str) -> ModuleType:
    """The example, with fewer epochs than it has for its reader."""
    sys.modules.pop(name, None)
    digits = importlib.import_module("digits")
    digits.EPOCHS = 1
    return importlib.import_module(name)


@pytest.fixture
def plain() -> dict[str, torch.Tensor]:
    return example("plain_loop").main().state_dict()


@pytest.mark.parametrize("name", ["accelerate_loop", "lightning_trainer"])
def test_a_framework_ends_at_the_weights_of_the_plain_loop_bit_for_bit(
    name: str, plain: dict[str, torch.Tensor]
) -> None:
    model = example(name).main()
    assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["accelerate_loop", "lightning_trainer"])
def test_accumulation_agrees_with_whole_batches_to_rounding(name: str, plain: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(dict(example(name).main(accumulate=4).state_dict()), dict(plain), atol=1e-12, rtol=0)


def test_micro_batches_and_a_scaler_agree_with_whole_batches(plain: dict[str, torch.Tensor]) -> None:
    module = example("accumulation_and_amp")
    torch.testing.assert_close(dict(module.main(precision=None).state_dict()), dict(plain), atol=1e-12, rtol=0)
    # bfloat16 has three digits.
    torch.testing.assert_close(dict(module.main().state_dict()), dict(plain), atol=0.05, rtol=0.05)


def test_the_vision_transformer_ends_at_the_weights_of_a_plain_loop() -> None:
    module = example("transformers_trainer")
    trained = module.main()
    accumulated = module.main(accumulate=4)
    dataset, tail = module.rare_digits()
    model = module.vision_transformer()
    optimizer = module.imbsam(model, tail)
    steps = 2 * -(-len(dataset) // module.BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (steps - step) / steps)
    rows = list(dataset)
    for _ in range(2):
        for start in range(0, len(rows), module.BATCH_SIZE):
            batch = module.collate(rows[start : start + module.BATCH_SIZE])
            pixels, y = batch["pixel_values"], batch["labels"]
            with optimizer.passes(y) as passes:
                for p in passes:
                    p.backward(F.cross_entropy(model(pixels[p.rows]).logits, y[p.rows], reduction="none"))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in trained.state_dict().items())
    torch.testing.assert_close(dict(accumulated.state_dict()), dict(model.state_dict()), atol=1e-7, rtol=0)


def test_the_grid_search_finds_a_rho() -> None:
    search = example("skorch_grid_search").main()
    assert set(search.best_params_) == {"optimizer__rho"}


def test_every_example_is_run_here_and_short() -> None:
    here = Path(__file__).read_text()
    for name in NAMES:
        assert f'"{name}"' in here, name
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 80
