"""Every method on a device of its own: what it leaves is the CPU's, and an unchecked step never waits for it."""

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cases import CLASSES, TAIL, cross_entropy
from device.simulated import OnDevice, fetched, waits
from imbsam import ClassPriors
from imbsam.optim import ASCENTS, METHODS, create

PRIORS = ClassPriors.from_counts([40, 30, 20, 6, 1])
TARGETS = torch.tensor([0, 3, 1, 2, 0, 4, 1, 0, 1, 2, 2, 0, 1, 0, 2, 1, 0, 0, 3, 1])
CPU = torch.device("cpu")
NORMS = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "no norm": nn.Identity,
}
WAITS_OF_A_STEP = {"esam": 2}
"""It draws a batch of rows by their losses: those at the weights and those at the perturbed ones come to the CPU."""


def network(norm: str) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), NORMS[norm](), nn.ReLU(), nn.Flatten(), nn.Linear(36, CLASSES))


def steps(
    name: str,
    model: nn.Module,
    device: torch.device,
    *,
    number: int = 3,
    on_device: bool = False,
    size: int = 99,
    **options: Any,
) -> list[list[str]]:
    """Make steps with images drawn by seed, and tell what each of them waited for."""
    torch.manual_seed(2)
    given = {"priors": PRIORS, "tail": TAIL, "nonfinite": "unchecked", **options}
    optimizer = create(name, model, total_steps=number, **given)
    found = []
    for _ in range(number):
        x, y = torch.randn(len(TARGETS), 1, 5, 5).to(device), TARGETS.to(device)
        with waits() as waited:
            with optimizer.passes(y if on_device else TARGETS) as passes:
                for part in (part for p in passes for part in p.split(size)):
                    images, labels = part.select(x, y)
                    with torch.set_grad_enabled(part.needs_gradient):
                        losses = cross_entropy(model(images), labels)
                    part.backward(losses)
            optimizer.step()
        found.append(waited)
    return found


def assert_equal(elsewhere: nn.Module, model: nn.Module) -> None:
    """The state of both is the same bit for bit, the first on the simulated device."""
    for key, tensor in model.state_dict().items():
        found = elsewhere.state_dict()[key]
        assert isinstance(found, OnDevice)
        assert torch.equal(fetched(found), tensor), key


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", METHODS)
def test_weights_are_those_of_the_cpu_and_an_unchecked_step_waits_for_nothing(simulated, name, norm):
    model = network(norm)
    elsewhere = copy.deepcopy(model).to(simulated)
    steps(name, model, CPU)
    _, *later = steps(name, elsewhere, simulated)
    assert_equal(elsewhere, model)
    assert [len(waited) for waited in later] == [WAITS_OF_A_STEP.get(name, 0)] * len(later), later


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("ascent", ASCENTS)
def test_every_ascent_is_that_of_the_cpu_and_waits_for_nothing(simulated, ascent, norm):
    model = network(norm)
    elsewhere = copy.deepcopy(model).to(simulated)
    steps("imbsam", model, CPU, ascent=ascent)
    _, *later = steps("imbsam", elsewhere, simulated, ascent=ascent)
    assert_equal(elsewhere, model)
    assert later == [[], []]


@pytest.mark.parametrize("norm", NORMS)
def test_micro_batches_wait_for_nothing(simulated, norm):
    model = network(norm)
    elsewhere = copy.deepcopy(model).to(simulated)
    steps("imbsam", model, CPU, size=7)
    _, *later = steps("imbsam", elsewhere, simulated, size=7)
    assert_equal(elsewhere, model)
    assert later == [[], []]


@pytest.mark.parametrize(("options", "number"), [({"on_device": True}, 1), ({"nonfinite": "raise"}, 1)])
def test_targets_on_the_device_and_a_checked_step_are_waited_for_once(simulated, options, number):
    model = network("group norm").to(simulated)
    _, *later = steps("imbsam", model, simulated, **options)
    assert [len(waited) for waited in later] == [number, number], later


@pytest.mark.parametrize("base", ["adamw", "muon", "rmsprop"])
def test_every_base_follows_the_cpu(simulated, base):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(25, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 5)
    )
    elsewhere = copy.deepcopy(model).to(simulated)
    steps("imbsam", model, CPU, base=base, lr=0.01)
    steps("imbsam", elsewhere, simulated, base=base, lr=0.01)
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(fetched(elsewhere.state_dict()[key]), tensor)


@pytest.mark.parametrize("name", METHODS)
def test_a_closure_of_rows_follows_the_cpu(simulated, name):
    """With groups of their own rho, shares of classes, a loss outside the model and a batch that is refused."""
    model = network("batch norm")
    shares = F.one_hot(TARGETS, CLASSES).double() * 0.9 + 0.02

    def trained(net: nn.Module, device: torch.device) -> tuple[Any, Any]:
        torch.manual_seed(2)
        centres = torch.eye(CLASSES).to(device).requires_grad_()
        first, *rest = net.parameters()
        base = torch.optim.SGD([{"params": [first], "rho": 0.0}, {"params": rest}], lr=0.1, momentum=0.9)
        optimizer = create(name, net, base=base, priors=PRIORS, tail=TAIL, total_steps=3, nonfinite="skip")
        aware = optimizer.memberships or not optimizer.class_aware
        for factor in (1.0, float("nan"), 1.0):
            centres.grad = None
            x, y = (torch.randn(len(TARGETS), 1, 5, 5) * factor).to(device), TARGETS.to(device)
            optimizer.step(
                lambda rows, x=x, y=y: cross_entropy(net(x[rows]) @ centres, y[rows]),
                targets=(shares if aware else TARGETS).to(device),
            )
        assert optimizer.skipped == 1
        return optimizer.state_dict(), centres.grad

    elsewhere = copy.deepcopy(model).to(simulated)
    expected, found = trained(model, CPU), trained(elsewhere, simulated)
    assert_equal(elsewhere, model)
    torch.testing.assert_close(fetched(found), fetched(expected), rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_file_on_the_cpu_goes_on_alike(simulated, name):
    model = network("batch norm")
    elsewhere = copy.deepcopy(model).to(simulated)
    given = {"priors": PRIORS, "tail": TAIL, "total_steps": 4}

    def go_on(net: nn.Module, device: torch.device, seed: int, kept: io.BytesIO | None = None) -> io.BytesIO:
        torch.manual_seed(seed)
        optimizer = create(name, net, **given)
        if kept is not None:
            kept.seek(0)
            optimizer.load_state_dict(torch.load(kept, map_location="cpu"))
        for _ in range(2):
            x, y = torch.randn(len(TARGETS), 1, 5, 5).to(device), TARGETS.to(device)
            optimizer.step(lambda rows, x=x, y=y: cross_entropy(net(x[rows]), y[rows]), targets=TARGETS.to(device))
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        return file

    held = {net: go_on(net, device, 3) for net, device in ((model, CPU), (elsewhere, simulated))}
    for net, device in ((model, CPU), (elsewhere, simulated)):
        go_on(net, device, 4, held[net])
    assert_equal(elsewhere, model)
