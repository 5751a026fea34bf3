"""The simulated device, as a fixture."""

import pytest

from device.simulated import present


@pytest.fixture
def simulated():
    with present() as device:
        yield device
