"""The simulated device notices what a real one would refuse, and what it would be waited for."""

import pytest
import torch
from torch import nn

from device.simulated import OnDevice, fetched, waits


def test_it_is_a_device_of_torch(simulated):
    made = [torch.zeros(3, device=simulated), torch.tensor([1.0, 2.0], device="simulated"), torch.ones(2).to(simulated)]
    assert all(isinstance(tensor, OnDevice) and tensor.device == simulated for tensor in made)
    assert str(simulated) == "simulated:0"


def test_tensors_of_two_devices_do_not_mix(simulated):
    with pytest.raises(RuntimeError, match="given tensors on simulated:0"):
        torch.ones(3, device=simulated) + torch.ones(3)
    with pytest.raises(RuntimeError, match="given tensors on simulated:0"):
        nn.Linear(3, 2).to(simulated)(torch.ones(4, 3))


def test_a_backward_leaves_gradients_there(simulated):
    layer = nn.Linear(3, 2).to(simulated)
    layer(torch.ones(4, 3).to(simulated)).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.device == simulated


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: torch.equal(x, x),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.copy_(torch.ones(3)),
        lambda x: torch.ones(3).to(x.device),
    ],
)
def test_whoever_waits_is_noted_once(simulated, looks):
    x = torch.arange(3.0).to(simulated)
    with waits() as found:
        looks(x)
    assert len(found) == 1 or (len(found) == 2 and "aten::is_nonzero" in found), found


def test_whoever_does_not_wait_is_not_noted(simulated):
    x = torch.arange(3.0).to(simulated)
    with waits() as found:
        y = torch.ones(3).to(simulated, non_blocking=True)
        rows = torch.tensor([0, 2]).to(simulated, non_blocking=True)
        torch.where(x > 0, x * y, 0.5)[rows].sum()
        x.add_(y).mul_(torch.tensor(2.0))
    assert found == []
    assert torch.equal(fetched(x), torch.tensor([2.0, 4.0, 6.0]))


def test_afterwards_there_is_no_accelerator():
    assert not torch.accelerator.is_available()
