"""Round after round a process holds no more; tests/reliability/soak.py goes on for hours."""

from itertools import islice

import pytest

from reliability.soak import soak

pytestmark = pytest.mark.slow

WARM, ROUNDS = 8, 12
SLACK = 2**20
"""Bytes that the allocator may keep over the rounds; one leaked model, optimizer and data set a round would be more."""


def test_memory_and_open_files_stay_flat(tmp_path):
    held = list(islice(soak(tmp_path), WARM + ROUNDS))[WARM - 1 :]
    assert {use.files for use in held} == {held[0].files}
    assert held[-1].memory - held[0].memory < SLACK
