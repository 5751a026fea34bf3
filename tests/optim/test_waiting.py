"""How often a step makes the host wait for an accelerator: a number fetched from a tensor of the model's type.

Planning is done with int64, bool and float64 tensors on the CPU, and the model is float32: fetching one of its numbers
is what would synchronise.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, NO_TAIL, TAIL, Case
from imbsam.optim import METHODS, create
from optim.family import PRIORS
from optim.loops import make_passes

FETCHES = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default}


class Fetches(TorchDispatchMode):
    """Counts numbers fetched from float32 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        self.count += func in FETCHES and any(isinstance(a, torch.Tensor) and a.dtype == torch.float32 for a in args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("targets", [HEAD_AND_TAIL, NO_TAIL], ids=["tail", "no tail"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_a_step_that_is_not_checked_fetches_no_number(name: str, case: Case, targets: torch.Tensor) -> None:
    model = case.model(torch.float32)
    optimizer = create(name, model, priors=PRIORS, tail=TAIL, lr=0.05, nonfinite="unchecked")
    for _ in range(2):
        batch = case.batch(targets, dtype=torch.float32)
        with Fetches() as fetches:
            make_passes(optimizer, model, case.loss, batch)
            optimizer.step()
        assert fetches.count == 0


def test_the_counter_sees_a_fetch() -> None:
    with Fetches() as fetches:
        float(torch.ones(3).sum())
    assert fetches.count == 1


def test_an_unchecked_step_takes_what_is_not_finite() -> None:
    model = MLP.model(torch.float32)
    optimizer = create("imbsam", model, tail=TAIL, lr=0.05, nonfinite="unchecked")
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    make_passes(optimizer, model, lambda out, t: MLP.loss(out, t) * torch.inf, (x, y))
    optimizer.step()
    assert optimizer.steps == 1
    assert not all(bool(p.isfinite().all()) for p in model.parameters())
