"""Backpropagating losses with weights is what ``Tensor.backward`` does."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imbsam.optim._tensors import backpropagate


def losses_of(model: nn.Module) -> Tensor:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    losses: Tensor = model(x).square().sum(1)
    return losses


def test_gradients_are_those_of_backward_in_every_bit() -> None:
    model, weights = nn.Linear(3, 2), torch.rand(6)
    losses_of(model).backward(weights)  # type: ignore[no-untyped-call]
    expected = [p.grad for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    backpropagate(losses_of(model), weights, retain_graph=False)
    for p, grad in zip(model.parameters(), expected, strict=True):
        assert grad is not None
        assert p.grad is not None
        assert torch.equal(p.grad, grad)


def test_a_graph_that_is_kept_serves_again_and_one_that_is_not_does_not() -> None:
    losses, weights = losses_of(nn.Linear(3, 2)), torch.ones(6)
    backpropagate(losses, weights, retain_graph=True)
    backpropagate(losses, weights, retain_graph=False)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        backpropagate(losses, weights, retain_graph=False)


def test_losses_without_a_graph_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        backpropagate(torch.ones(6), torch.ones(6), retain_graph=False)


def test_a_tensor_of_another_kind_backpropagates_by_itself() -> None:
    called = []

    class Watched(Tensor):
        def backward(self, *args: Any, **options: Any) -> None:
            called.append(options)

    losses = losses_of(nn.Linear(3, 2)).as_subclass(Watched)  # type: ignore[arg-type]
    backpropagate(losses, torch.ones(6), retain_graph=True)
    assert called == [{"retain_graph": True}]
