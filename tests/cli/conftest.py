from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from imbsam.cli import main

# Tests share a machine with others: one thread each, and no events that no test reads.
QUICK = ("--epochs", 2, "--threads", 1, "--track", "none")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def imbsam(capsys, tmp_path, monkeypatch) -> Callable[..., Ran]:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = call(*words)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def fails(imbsam) -> Callable[..., str]:
    """Run a command that must be refused with one message, and give the message."""

    def run(*words: object) -> str:
        ran = imbsam(*words)
        assert ran.code == 2
        assert ran.out == ""
        assert "Traceback" not in ran.err
        assert ran.err.startswith("imbsam: ")
        assert ran.err.count("imbsam: ") == 1
        return ran.err.removeprefix("imbsam: ").strip()

    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished run on digits, not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert call("train", "digits", *QUICK, "--out", folder, "--quiet") == 0
    return folder


@pytest.fixture
def quick() -> tuple[object, ...]:
    return QUICK
