"""LoRA adapters of peft on a transformer: what is trained is perturbed and saved, the rest is left alone."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import oracles
from cases import BATCHES, CLASSES, TAIL
from imbsam.optim import METHODS, SharpnessAware, create
from optim.family import GRADIENTS, PRIORS
from optim.loops import identical

WORDS = 60
LORA = {"r": 3, "lora_alpha": 6, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def base(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    size = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=WORDS, max_position_embeddings=8, num_labels=CLASSES, **size, **dropout)
    return BertForSequenceClassification(config).to(dtype)


def adapted(dtype: torch.dtype = torch.float64) -> PeftModel:
    model = base(dtype)
    torch.manual_seed(2)
    return get_peft_model(model, LoraConfig(**LORA), autocast_adapter_dtype=False)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    for seed, y in enumerate(BATCHES):
        words = torch.randint(0, 20, (len(y), 5), generator=torch.Generator().manual_seed(seed))
        yield words + 8 * y[:, None], y


def losses_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(input_ids=x).logits, y, reduction="none")


def made(name: str, model: nn.Module, params: list[Tensor] | None = None) -> SharpnessAware:
    """Over all parameters, frozen ones too, unless some are given."""
    rule = torch.optim.SGD(list(model.parameters()) if params is None else params, lr=0.2, momentum=0.9)
    return create(name, model, base=rule, priors=PRIORS, tail=TAIL)


def trained(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def frozen(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if not p.requires_grad]


def copies(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_perturbs_and_trains_the_adapters_alone(name: str, dtype: torch.dtype) -> None:
    model = adapted(dtype)
    optimizer = made(name, model)
    base_weights, start = copies(frozen(model)), copies(trained(model))
    moved = False
    for seed, (x, y) in enumerate(batches()):
        before = copies(trained(model))
        torch.manual_seed(seed)
        with optimizer.passes(y) as passes:
            for p in passes:
                assert identical(base_weights, frozen(model))
                moved = moved or not identical(before, trained(model))
                p.backward(losses_of(model, x[p.rows], y[p.rows]))
        assert identical(before, trained(model))
        optimizer.step()
    assert moved == (name != "plain")
    assert identical(base_weights, frozen(model))
    assert all(p.grad is None for p in frozen(model))
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    resting = [n for n, a, b in zip(names, start, trained(model), strict=True) if torch.equal(a, b)]
    # B starts at 0, and so small is the gradient of A that it may not reach the last bit of single precision.
    assert not [n for n in resting if dtype == torch.float64 or "lora_A" not in n]


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_adapters_follow_the_textbook_loop(name: str) -> None:
    model, twin = adapted(), adapted()
    optimizer = made(name, model)
    params, rule = trained(twin), oracles.SGD(0.2, 0.9, 0.0)
    rhos = [optimizer.param_groups[0]["rho"]] * len(params)
    for x, y in batches():

        def twin_losses(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return losses_of(twin, x[rows], y[rows])

        rule.step(params, GRADIENTS[name](params, twin_losses, y, rhos))
        optimizer.step(lambda rows, x=x, y=y: losses_of(model, x[rows], y[rows]), targets=y)
        torch.testing.assert_close(trained(model), params, atol=1e-12, rtol=0)


def test_frozen_weights_in_the_optimizer_or_out_of_it_are_the_same() -> None:
    model, twin = adapted(), adapted()
    one, other = made("imbsam", model), made("imbsam", twin, trained(twin))
    for x, y in batches():
        one.step(lambda rows, x=x, y=y: losses_of(model, x[rows], y[rows]), targets=y)
        other.step(lambda rows, x=x, y=y: losses_of(twin, x[rows], y[rows]), targets=y)
    assert identical(list(model.parameters()), list(twin.parameters()))


@pytest.mark.parametrize(("name", "copies_kept"), [("plain", 0), ("imbsam", 1), ("sam", 1)])
def test_memory_holds_one_more_copy_of_the_adapters_and_none_of_the_base(name: str, copies_kept: int) -> None:
    model = adapted(torch.float32)
    optimizer = made(name, model)
    for x, y in batches():
        optimizer.step(lambda rows, x=x, y=y: losses_of(model, x[rows], y[rows]), targets=y)

    def alive(weight: Tensor) -> int:
        gc.collect()
        return sum(
            type(t) in (Tensor, nn.Parameter) and t.shape == weight.shape and t.dtype == weight.dtype
            for t in gc.get_objects()
        )

    adapters = [p for n, p in model.named_parameters() if "lora_A" in n]
    # The weight, its gradient, the momentum, and the copy.
    assert alive(adapters[0]) == len(adapters) * (3 + copies_kept)
    words = model.get_input_embeddings().weight
    assert words.shape == (WORDS, 12)
    assert alive(words) == 1


def test_merged_adapters_are_the_trained_model_and_a_checkpoint_holds_the_adapters_alone(tmp_path: Path) -> None:
    model = adapted()
    optimizer = made("imbsam", model)
    for x, y in batches():
        optimizer.step(lambda rows, x=x, y=y: losses_of(model, x[rows], y[rows]), targets=y)
    model.save_pretrained(tmp_path)
    x, _ = next(batches())
    model.eval()
    again = PeftModel.from_pretrained(base(), tmp_path, autocast_adapter_dtype=False).eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=x).logits, model(input_ids=x).logits)
        merged = model.merge_and_unload()(input_ids=x).logits
        torch.testing.assert_close(merged, again(input_ids=x).logits, atol=1e-12, rtol=0)
    whole = sum(p.numel() for p in base().parameters()) * 8
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < whole / 2
