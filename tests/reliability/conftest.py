from pathlib import Path

import pytest

from cli.conftest import imbsam as imbsam
from imbsam.runs.folder import RunFolder
from reliability import small


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    return small.source(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, table) -> RunFolder:
    """A finished run, not to be written to."""
    return small.train(tmp_path_factory.mktemp("runs") / "run", table)


@pytest.fixture(scope="session")
def detector(tmp_path_factory) -> Path:
    """The folder of a fitted detector, not to be written to."""
    return small.detector(tmp_path_factory.mktemp("detector"))
