"""The zero-argument closures of other trainers serve the methods that need no classes."""

import pytest
import torch
from torch import Tensor

from cases import MLP
from integrations import plain
from integrations.plain import BATCH_SIZE

X, Y = plain.dataset().tensors


def by_hand(micro: int | None = None) -> tuple[torch.nn.Module, list[float]]:
    model = MLP.model()
    return model, plain.train(model, plain.optimizer_for("sam", model), plain.batches(plain.dataset()), micro=micro)


def test_a_closure_as_of_lbfgs() -> None:
    model, losses = MLP.model(), []
    optimizer = plain.optimizer_for("sam", model)
    for _ in range(2):
        for x, y in plain.batches(plain.dataset()):

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = plain.losses_of(model, (x, y)).mean()
                loss.backward()
                return loss

            losses.append(float(optimizer.step(closure)))
    expected, plain_losses = by_hand()
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), atol=1e-14, rtol=0)
    assert losses == pytest.approx(plain_losses, rel=1e-14)


def test_a_closure_as_of_composer_that_loops_over_micro_batches() -> None:
    model = MLP.model()
    optimizer = plain.optimizer_for("sam", model)
    for _ in range(2):
        for x, y in plain.batches(plain.dataset()):

            def closure(x: Tensor = x, y: Tensor = y, **kwargs: object) -> Tensor:
                optimizer.zero_grad(set_to_none=True)
                total = torch.zeros((), dtype=x.dtype)
                for part in zip(x.split(BATCH_SIZE // 2), y.split(BATCH_SIZE // 2), strict=True):
                    loss = plain.losses_of(model, part).sum() / len(y)
                    loss.backward()
                    total += loss.detach()
                return total

            optimizer.step(closure=closure)
    torch.testing.assert_close(model.state_dict(), by_hand(BATCH_SIZE // 2)[0].state_dict(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", ["imbsam", "focal-sam"])
def test_a_method_that_needs_classes_says_what_to_do(name: str) -> None:
    optimizer = plain.optimizer_for(name, MLP.model())
    with pytest.raises(TypeError, match=r"step\(lambda rows: .*targets=y\)"):
        optimizer.step(lambda: torch.zeros(()))
