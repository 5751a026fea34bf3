"""What every test starts from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from cases import DEVICE, MISSING, WANTED
from imbsam.config import Options
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import Result
from tiny_data import image_folder, table

# How long an example takes hangs on what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

QUICK = {"epochs": 2, "track": "none", "threads": 1, "method": "imbsam"}


@pytest.fixture(autouse=True, scope="session")
def _the_cases_device() -> None:
    """The device that was asked for is there, and computes the same twice."""
    if MISSING:
        pytest.skip(f"IMBSAM_TEST_DEVICE is {WANTED}, and torch finds no CUDA device here")
    if DEVICE.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def array_checks(monkeypatch) -> None:
    """scikit-learn leaves its check of array API input out where this is not set."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@pytest.fixture
def options() -> Callable[..., Options]:
    """Options of a run that takes a moment."""

    def make(**values: object) -> Options:
        return Options().updated({**QUICK, **values})

    return make


@pytest.fixture
def train(options) -> Callable[..., Result]:
    """Train into a folder and give what came out."""

    def make(folder: Path, source: object = "digits", *, on_epoch=None, **values: object) -> Result:
        return fit(RunFolder(folder), str(source), options(**values), on_epoch=on_epoch)

    return make


@pytest.fixture(scope="session")
def pets(tmp_path_factory) -> Path:
    return image_folder(tmp_path_factory.mktemp("data") / "pets")


@pytest.fixture(scope="session")
def parts_csv(tmp_path_factory) -> Path:
    return table(tmp_path_factory.mktemp("data") / "parts.csv")


@pytest.fixture(scope="module")
def browser():
    """A real browser. It ends with the module: two at once, or an event loop beside one, Playwright does not allow."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "these tests start a real browser: apt-get install chromium, or name one in CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
