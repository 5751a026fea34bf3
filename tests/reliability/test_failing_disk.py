"""Calls of the system that fail in the middle of a training; tests/reliability/failing_disk.py tries every one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("failing_disk.py")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_call_that_fails_is_told_and_the_run_goes_on_to_the_same_bytes():
    path = os.pathsep.join(sys.path)
    ran = subprocess.run(
        [sys.executable, SCRIPT, "40", "EIO"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("6 runs with failing calls out of ")
