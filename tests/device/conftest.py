"""The simulated device, as a fixture."""

from functools import cache

import pytest
import torch

from device.simulated import present


@pytest.fixture
def simulated():
    with present() as device:
        if not _has_thread(device):
            pytest.skip("a backward was made before the device was there, and it has no thread: run tests/device alone")
        yield device


@cache
def _has_thread(device: torch.device) -> bool:
    """Whether torch makes backwards there, which it decides in a process's first backward."""
    x = torch.ones(1, device=device, requires_grad=True)
    try:
        x.sum().backward()
    except RuntimeError as error:
        if "device_ready_queues_" not in str(error):
            raise
        return False
    return True
