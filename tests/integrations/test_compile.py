"""A compiled model ends at the weights of the plain loop, in everything a loop does around the passes."""

import io
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from cases import MLP
from integrations import plain
from integrations.plain import BATCH_SIZE, METHODS


@pytest.fixture(autouse=True)
def _no_graphs_from_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def trained(
    name: str, called: nn.Module, model: nn.Module, *, clip: float | None = None, **options: object
) -> list[float]:
    """Train a model by calling it, or what it has been compiled to."""
    optimizer = plain.optimizer_for(name, called)
    if clip is not None:
        options["clip"] = lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)
    dtype = next(model.parameters()).dtype
    data = plain.batches(plain.dataset(dtype=dtype))
    return plain.train(called, optimizer, data, scheduler=plain.schedule(optimizer), **options)


def assert_the_same(name: str, dtype: torch.dtype = torch.float64, **options: object) -> None:
    model, twin = MLP.model(dtype), MLP.model(dtype)
    losses = trained(name, compiled(model), model, **options)
    assert losses == trained(name, twin, twin, **options)
    assert plain.same(model, twin)


@pytest.mark.parametrize("name", METHODS)
def test_accumulation_of_micro_batches_is_the_step_over_one_batch(name: str) -> None:
    assert_the_same(name, micro=BATCH_SIZE // 2)


def test_clipping_sees_the_combined_gradient() -> None:
    assert_the_same("imbsam", clip=0.1)


@pytest.mark.parametrize("name", METHODS)
def test_bf16_is_the_plain_loop_under_autocast(name: str) -> None:
    assert_the_same(name, torch.float32, precision=torch.bfloat16)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str) -> None:
    data = plain.batches(plain.dataset())
    first = compiled(MLP.model())
    optimizer = plain.optimizer_for(name, first)
    losses = plain.train(first, optimizer, data, epochs=1)
    written = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, written)
    second = compiled(MLP.model())
    optimizer = plain.optimizer_for(name, second)
    written.seek(0)
    saved = torch.load(written)
    second.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    losses += plain.train(second, optimizer, data, epochs=1)
    whole = compiled(MLP.model())
    assert losses == plain.train(whole, plain.optimizer_for(name, whole), data, epochs=2)
    assert plain.same(second, whole)
