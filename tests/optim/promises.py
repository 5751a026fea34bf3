"""What a method can promise, as assertions about a method by its name; ``PROMISED`` says which makes which."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, NO_TAIL, ONLY_TAIL, ROUTED, TAIL, Case, Loss
from imbsam.optim import METHODS, SAM, SharpnessAware, WeightedSAM
from optim.family import BASES, grouped, made
from optim.loops import assert_gradients_close, contents, gradients, identical, make_passes, plain_step, sgd, take_step

Promise = Callable[[str], None]

KINDS = (("sgd", torch.float32), ("adamw", torch.float32), ("sgd", torch.float64), ("sgd", torch.bfloat16))


def rho_zero_is_the_base_step(name: str) -> None:
    """Bit for bit: whatever else the method does, it does by perturbing; classes it weighs it weighs all the same."""
    for base, dtype in KINDS:
        for case in (MLP, ROUTED, BATCH_NORM):
            _follows_the_base(name, base, dtype, case)


def _follows_the_base(name: str, base: str, dtype: torch.dtype, case: Case) -> None:
    model, twin = case.model(dtype), case.model(dtype)
    optimizer = made(name, model, base=base, groups="several groups")
    for group in optimizer.param_groups:
        group.update(dict.fromkeys(optimizer.radii, 0.0))
    given, _ = grouped(twin, "several groups", 0.0)
    given[1]["lr"] = 0.02
    plain = BASES[base][0]([{k: v for k, v in group.items() if k != "rho"} for group in given])
    for x, y in case.batches(dtype):
        counted = _Counted(model, case.loss, x, y)
        returned = optimizer.step(counted, targets=y)
        losses = case.loss(twin(x), y)
        plain.zero_grad()
        if isinstance(optimizer, WeightedSAM):
            (losses * (optimizer.weights.to(y.device)[y] * (1 / len(y))).to(losses)).sum().backward()
        else:
            losses.mean().backward()
        plain.step()
        assert counted.forwarded == [len(y)]
        assert identical(contents(model, optimizer), contents(twin, plain))
        torch.testing.assert_close(returned.double(), losses.detach().double().mean(), atol=0.02, rtol=0)


def an_empty_tail_is_the_base_step(name: str) -> None:
    """Bit for bit, in one pass over the batch, also after steps that had a tail."""
    for case in (MLP, BATCH_NORM):
        model, twin = case.model(), case.model()
        optimizer, plain = made(name, model), sgd(twin.parameters())
        for number in range(3):
            x, y = case.batch(NO_TAIL, number)
            counted = _Counted(model, case.loss, x, y)
            optimizer.step(counted, targets=y)
            plain_step(plain, twin, case.loss, (x, y))
            assert counted.forwarded == [len(y)]
            assert identical(contents(model, optimizer), contents(twin, plain))


def all_rows_tail_is_sam(name: str) -> None:
    for case in (MLP, BATCH_NORM):
        model, twin = case.model(), case.model()
        optimizer = made(name, model, rho=0.3)
        sam = SAM(sgd(twin.parameters()), rho=0.3, model=twin)
        for number in range(3):
            take_step(optimizer, model, case.loss, case.batch(ONLY_TAIL, number))
            take_step(sam, twin, case.loss, case.batch(ONLY_TAIL, number))
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)


def the_order_of_rows_does_not_matter(name: str) -> None:
    order = torch.tensor([4, 1, 6, 0, 3, 5, 2])
    x, y = MLP.batch(HEAD_AND_TAIL)
    found = []
    for rows in (torch.arange(len(y)), order):
        model = MLP.model()
        torch.manual_seed(0)
        make_passes(made(name, model), model, MLP.loss, (x[rows], y[rows]))
        found.append(gradients(model))
    assert_gradients_close(found[0], found[1], atol=1e-10)


def rows_forwarded_equal_the_stated_cost(name: str) -> None:
    """A backward costs two forwards; both are counted in rows, where the rows do not see each other."""
    model, steps = MLP.model(), 10
    optimizer = made(name, model, total_steps=steps)
    y = torch.tensor([0] * 6 + [1] * 5 + [2] * 4 + [3] * 3 + [4] * 2)
    costs = []
    for seed in range(steps):
        counted = _Counted(model, MLP.loss, *MLP.batch(y, seed))
        optimizer.step(counted, targets=y)
        costs.append((sum(counted.forwarded) + 2 * sum(counted.backpropagated)) / 3 / len(y))
    cycle = getattr(optimizer, "interval", 1)
    stated = _stated(name, optimizer, float(TAIL[y].double().mean()))
    # The first step of sampa is plain.
    begun = costs[1:] if name == "sampa" else costs
    assert sum(begun[:cycle]) / cycle == pytest.approx(stated[0], abs=0.004)
    assert sum(costs[-cycle:]) / cycle == pytest.approx(stated[-1], abs=0.004)


def _stated(name: str, optimizer: SharpnessAware, tail_share: float) -> Sequence[float]:
    """The cost that the registry states, of each phase of the training."""
    values = {
        "t": tail_share,
        "n": getattr(optimizer, "samples", None),
        "gamma": getattr(optimizer, "gamma", None),
        "k": getattr(optimizer, "interval", None),
    }
    phases = METHODS[name].cost.split(", ")
    return [float(eval(phase.removeprefix("then "), {"__builtins__": {}}, values)) for phase in phases]


class _Counted:
    """A closure that counts the rows of its forwards and of their backwards."""

    def __init__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> None:
        self._losses = lambda rows: loss(model(x[rows]), y[rows])
        self.forwarded: list[int] = []
        self.backpropagated: list[int] = []

    def __call__(self, rows: Tensor) -> Tensor:
        losses: Tensor = self._losses(rows)
        self.forwarded.append(len(rows))
        if losses.requires_grad:
            losses.register_hook(lambda grad: self.backpropagated.append(len(rows)))
        return losses


EVERY_METHOD: tuple[Promise, ...] = (
    rho_zero_is_the_base_step,
    the_order_of_rows_does_not_matter,
    rows_forwarded_equal_the_stated_cost,
)

OF_TAILS: Mapping[str, tuple[Promise, ...]] = {
    "imbsam": (an_empty_tail_is_the_base_step, all_rows_tail_is_sam),
    "sse-sam": (all_rows_tail_is_sam,),
    "tail-sam-a": (an_empty_tail_is_the_base_step, all_rows_tail_is_sam),
}

PROMISED: Mapping[str, tuple[Promise, ...]] = {name: (*EVERY_METHOD, *OF_TAILS.get(name, ())) for name in METHODS}
