"""Every example runs, and those that train the digits' network end at the weights of the plain loop."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState, PartialState
from peft import PeftModel
from transformers import ViTForImageClassification

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
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


@pytest.mark.parametrize("name", ["accelerate_loop", "fabric_loop", "lightning_trainer"])
def test_a_framework_ends_at_the_weights_of_the_plain_loop_bit_for_bit(
    name: str, plain: dict[str, torch.Tensor]
) -> None:
    model = example(name).main()
    assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["accelerate_loop", "fabric_loop", "lightning_trainer"])
def test_accumulation_agrees_with_whole_batches_to_rounding(name: str, plain: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(dict(example(name).main(accumulate=4).state_dict()), dict(plain), atol=1e-12, rtol=0)


ON_TWO_PROCESSES = """
import sys
sys.path.insert(0, sys.argv[1])
import digits, torch
digits.EPOCHS = 1
digits.rare_digits = lambda: torch.load("rows.pt", weights_only=False)
torch.set_num_threads(1)
"""
FABRIC = """
import fabric_loop
trained = fabric_loop.main(devices=2, shard='shard' in sys.argv)
if torch.distributed.get_rank() == 0:
    torch.save(trained.state_dict(), "digits.pt")
"""
TORCHRUN = "import torchrun_loop; torchrun_loop.main(shard='shard' in sys.argv)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "script", "words"),
    [
        ("fabric_loop", FABRIC, []),
        ("fabric_loop", FABRIC, ["shard"]),
        ("torchrun_loop", TORCHRUN, []),
        ("torchrun_loop", TORCHRUN, ["shard"]),
    ],
)
def test_two_processes_agree_with_one_to_rounding(
    name: str, script: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = importlib.import_module("digits")
    dataset, tail = digits.rare_digits()
    # Whole batches: a sampler for several processes repeats a row where their number does not divide the rows.
    rows = torch.utils.data.TensorDataset(*dataset[: 22 * digits.BATCH_SIZE]), tail
    torch.save(rows, tmp_path / "rows.pt")
    (tmp_path / "example.py").write_text(ON_TWO_PROCESSES + script)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if "torchrun" in name else []
    command = [sys.executable, *torchrun, "example.py", str(EXAMPLES), *words]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    monkeypatch.setattr(digits, "rare_digits", lambda: rows)
    one = dict(example("plain_loop").main().state_dict())
    torch.testing.assert_close(dict(torch.load(tmp_path / "digits.pt")), one, atol=1e-12, rtol=0)


@pytest.mark.parametrize("style", ["lbfgs", "composer"])
def test_a_closure_ends_at_the_weights_of_the_plain_loop(style: str) -> None:
    module = example("closures")
    digits = sys.modules["digits"]
    dataset, _ = digits.rare_digits()
    model = digits.network()
    optimizer = module.sam(model)
    loader = torch.utils.data.DataLoader(dataset, digits.BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(loader))
    for x, y in loader:
        with optimizer.passes(y) as passes:
            for p in passes:
                p.backward(F.cross_entropy(model(x[p.rows]), y[p.rows], reduction="none"))
        optimizer.step()
        schedule.step()
    trained = module.main(getattr(module, f"step_as_{style}"))
    assert not torch.equal(trained[0].weight, digits.network()[0].weight)
    torch.testing.assert_close(dict(trained.state_dict()), dict(model.state_dict()), atol=1e-12, rtol=0)


def test_micro_batches_and_a_scaler_agree_with_whole_batches(plain: dict[str, torch.Tensor]) -> None:
    module = example("accumulation_and_amp")
    torch.testing.assert_close(dict(module.main(precision=None).state_dict()), dict(plain), atol=1e-12, rtol=0)
    # bfloat16 has three digits.
    torch.testing.assert_close(dict(module.main().state_dict()), dict(plain), atol=0.05, rtol=0.05)


def as_the_trainer(module: ModuleType, model: torch.nn.Module, epochs: int) -> None:
    """The plain loop over a transformer, with the clipping and the schedule that the Hugging Face trainer has."""
    dataset, tail = module.rare_digits()
    optimizer = module.imbsam(model, tail)
    steps = epochs * -(-len(dataset) // module.BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (steps - step) / steps)
    rows = list(dataset)
    for _ in range(epochs):
        for start in range(0, len(rows), module.BATCH_SIZE):
            batch = module.collate(rows[start : start + module.BATCH_SIZE])
            pixels, y = batch["pixel_values"], batch["labels"]
            with optimizer.passes(y) as passes:
                for p in passes:
                    p.backward(F.cross_entropy(model(pixels[p.rows]).logits, y[p.rows], reduction="none"))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def test_the_vision_transformer_ends_at_the_weights_of_a_plain_loop() -> None:
    module = example("transformers_trainer")
    trained = module.main()
    accumulated = module.main(accumulate=4)
    model = module.vision_transformer()
    as_the_trainer(module, model, epochs=2)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in trained.state_dict().items())
    torch.testing.assert_close(dict(accumulated.state_dict()), dict(model.state_dict()), atol=1e-7, rtol=0)


def test_adapters_on_a_model_from_a_folder_end_at_the_weights_of_a_plain_loop(tmp_path: Path) -> None:
    sys.modules.pop("transformers_trainer", None)
    module = example("finetune_lora")
    module.write_tiny_model(tmp_path)
    trained = module.main(tmp_path)
    model = module.adapted(tmp_path).train()
    untrained = {key: value.clone() for key, value in model.state_dict().items()}
    as_the_trainer(module, model, epochs=1)
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert 0 < len(learnt) < len(untrained)
    for key, value in trained.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
        assert torch.equal(value, untrained[key]) == (key not in learnt), key
    base = ViTForImageClassification.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float64)
    saved = PeftModel.from_pretrained(base, tmp_path / "adapters")
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in saved.state_dict().items())


def test_the_grid_search_finds_a_rho() -> None:
    search = example("skorch_grid_search").main()
    assert set(search.best_params_) == {"optimizer__rho"}


def test_every_example_is_run_here_and_short() -> None:
    here = Path(__file__).read_text()
    for name in NAMES:
        assert f'"{name}"' in here, name
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 80
