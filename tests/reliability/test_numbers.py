"""NaN and infinity, wherever they come up, never reach weights, optimizer state or running statistics."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

from imbsam.errors import NonFiniteError, RunWarning
from imbsam.optim import METHODS, create
from imbsam.priors import ClassPriors
from reliability import small

TARGETS = torch.tensor([0] * 8 + [1] * 4 + [2] * 2)
PRIORS = ClassPriors.from_counts([80, 40, 2])
BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Poisoned(torch.autograd.Function):
    """The identity whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def made(method, model, **options):
    tail = PRIORS.tail(fewer_than=20)
    return create(method, model, priors=PRIORS, tail=tail, total_steps=10, lr=0.1, **options)


def step(optimizer, model, x, poison=lambda place, losses: losses):
    """A step with BatchNorm; ``poison`` gets the number of the pass."""
    with optimizer.passes(TARGETS) as passes:
        for place, each in enumerate(passes):
            losses = nn.functional.cross_entropy(model(x[each.rows]), TARGETS[each.rows], reduction="none")
            each.backward(poison(place, losses))
    optimizer.step()


def poisons(x):
    """Inputs, and what is done to the losses, by the name of the fault."""
    for name, bad in BAD.items():
        spoilt = x.clone()
        spoilt[-1, 0] = bad
        yield f"{name} in an input of the rarest class", spoilt, lambda place, losses: losses
        yield f"{name} in the losses of the first pass", x, lambda place, losses, bad=bad: losses + bad * (place == 0)
    for at in range(3):
        yield (
            f"NaN in the gradient of pass {at}",
            x,
            lambda place, losses, at=at: Poisoned.apply(losses) if place == at else losses,
        )


@pytest.mark.parametrize("policy", ["raise", "skip"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_poisoned_and_the_next_step_is_as_if_the_bad_one_had_not_been(method, policy):
    x = torch.randn(len(TARGETS), 4)
    found = 0
    for fault, inputs, poison in poisons(x):
        model = network()
        optimizer = made(method, model, nonfinite=policy)
        step(optimizer, model, x)
        weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        refused = False
        try:
            step(optimizer, model, inputs, poison)
        except NonFiniteError:
            refused = True
        hit = refused or optimizer.skipped > 0
        # A method of fewer passes, or a pass that only moves statistics, has no gradient to spoil; some pass has.
        assert hit or "gradient of pass" in fault, fault
        if hit:
            found += 1
            assert refused == (policy == "raise")
            for counts in (state["sharpness"], *(group["sharpness"] for group in state["param_groups"])):
                counts.update(skipped=optimizer.skipped, skipped_in_a_row=optimizer.skipped)
            assert small.digest(model.state_dict()) == small.digest(weights), fault
            assert small.digest(optimizer.state_dict()) == small.digest(state), fault
    assert found >= 7


def test_a_step_that_nobody_looks_at_keeps_the_running_statistics_whole():
    x = torch.randn(len(TARGETS), 4)
    model = network()
    optimizer = made("imbsam", model)
    before = copy.deepcopy(model.state_dict())
    with optimizer.passes(TARGETS, loss_scale=2.0**16) as passes:
        for each in passes:
            outputs = model(torch.full_like(x[each.rows], math.inf))
            losses = nn.functional.cross_entropy(outputs, TARGETS[each.rows], reduction="none")
            each.backward(losses * 2.0**16)
    # As a GradScaler does that found an overflow: it does not call step().
    assert small.digest(model.state_dict()) == small.digest(before)


def test_a_scaled_step_that_is_sound_keeps_its_running_statistics():
    x = torch.randn(len(TARGETS), 4)
    models = [network(), network()]
    for model, scale in zip(models, (1.0, 2.0), strict=True):
        optimizer = made("imbsam", model)
        with optimizer.passes(TARGETS, loss_scale=scale) as passes:
            for each in passes:
                losses = nn.functional.cross_entropy(model(x[each.rows]), TARGETS[each.rows], reduction="none")
                each.backward(losses * scale)
    assert small.digest(list(models[0].buffers())) == small.digest(list(models[1].buffers()))
    assert small.digest(list(models[0].buffers())) != small.digest(list(network().buffers()))


def test_after_twenty_skips_in_a_row_the_trouble_is_told():
    x = torch.randn(len(TARGETS), 4)
    model = network()
    optimizer = made("imbsam", model, nonfinite="skip")
    for _ in range(20):
        step(optimizer, model, x * math.nan)
    step(optimizer, model, x)
    for _ in range(20):
        step(optimizer, model, x * math.nan)
    assert (optimizer.steps, optimizer.skipped) == (1, 40)
    with pytest.raises(NonFiniteError, match="20 steps in a row were skipped, and the loss"):
        step(optimizer, model, x * math.nan)


def test_a_run_that_skips_says_how_often(tmp_path, table, monkeypatch):
    module = sys.modules["imbsam.runs.loop"]
    real, calls = module.train_step, []

    def sometimes(model, criterion, optimizer, inputs, targets, **values):
        calls.append(len(targets))
        return real(model, criterion, optimizer, spoilt(inputs) if len(calls) == 2 else inputs, targets, **values)

    def spoilt(inputs):
        return torch.cat([inputs[:, :1] * math.nan, inputs[:, 1:]], dim=1)

    monkeypatch.setattr(module, "train_step", sometimes)
    with pytest.warns(RunWarning, match="1 steps were skipped"):
        run = small.train(tmp_path / "run", table, nonfinite="skip")
    assert "1 steps were skipped: a loss or gradient was NaN or infinite." in run.read_result().notes
    assert all(bool(tensor.isfinite().all()) for tensor in run.read_weights().values())
    calls.clear()
    with pytest.raises(NonFiniteError, match="epoch 1: the loss of this step is NaN"):
        small.train(tmp_path / "raises", table)
