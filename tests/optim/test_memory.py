"""What a step keeps in memory beside the base optimizer's: activations of a pass, copies of the weights."""

import gc

import pytest
import torch
from torch import nn

from cases import BATCH_NORM, MLP, Case
from imbsam.optim import ImbSAM, Reuse
from optim.loops import make_passes, sgd

# A large batch of small rows: three of 60 are tail rows.
TARGETS = torch.tensor([3] + [0] * 19).repeat(3)
TAIL = torch.tensor([False, False, False, True, True])


class Kept:
    """Bytes that autograd keeps for backward, at their highest."""

    def __init__(self) -> None:
        self.now = self.highest = 0

    def pack(self, tensor: torch.Tensor) -> "Held":
        return Held(self, tensor)


class Held:
    def __init__(self, kept: Kept, tensor: torch.Tensor) -> None:
        self.kept, self.tensor = kept, tensor
        # Parameters are there anyway.
        self.size = 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
        kept.now += self.size
        kept.highest = max(kept.highest, kept.now)

    def __del__(self) -> None:
        self.kept.now -= self.size


def peak(step: object) -> int:
    kept = Kept()
    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
        step()
    return kept.highest


@pytest.mark.parametrize("ascent", [None, Reuse()], ids=["fresh", "reuse"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_no_pass_keeps_more_activations_than_a_plain_step(case: Case, ascent: Reuse | None) -> None:
    model = case.model(torch.float32)
    x, y = case.batch(TARGETS, dtype=torch.float32)
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=0.1, ascent=ascent, model=model)

    def plain() -> None:
        case.loss(model(x), y).mean().backward()

    def ours() -> None:
        make_passes(optimizer, model, case.loss, (x, y))
        optimizer.step()

    allowed = peak(plain)
    model.zero_grad()
    # The weighted mean of the losses keeps a few numbers for each row.
    slack = 3 * len(y) * 8
    assert max(peak(ours), peak(ours)) <= allowed + slack


def weights_alive(weight: nn.Parameter) -> int:
    """Tensors of a weight's shape in the process, one of them itself; no other test has its shape."""
    gc.collect()
    return sum(type(t) in (torch.Tensor, nn.Parameter) and t.shape == weight.shape for t in gc.get_objects())


@pytest.mark.parametrize(("ascent", "copies"), [(None, 1), (Reuse(), 2)], ids=["fresh", "reuse"])
def test_between_steps_it_keeps_one_copy_of_the_weights_and_with_reuse_one_gradient_more(
    ascent: Reuse | None, copies: int
) -> None:
    model = nn.Sequential(nn.Linear(37, 41), nn.ReLU(), nn.Linear(41, 5))
    x = torch.randn(60, 37)
    loss = nn.CrossEntropyLoss(reduction="none")
    base = sgd(model.parameters())
    optimizer = ImbSAM(base, TAIL, rho=0.1, ascent=ascent, model=model)
    # Weights, their gradients, and the base optimizer's momentum.
    for _ in range(3):
        make_passes(optimizer, model, loss, (x, TARGETS))
        optimizer.step()
    assert weights_alive(model[0].weight) == 3 + copies
