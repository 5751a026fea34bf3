"""Ctrl-C in a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def interrupted(folder: Path, *words: object, begun: str, number: int = signal.SIGINT) -> tuple[int, str]:
    """Start the command, send it a signal as a terminal would once a file is there, and give its code and messages."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imbsam", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test suite that a shell runs in the background is born with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 60
    while not list(folder.glob(begun)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


EPOCHS = 30
LONG = ("--epochs", EPOCHS, "--threads", 1, "--track", "none", "--quiet")


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_training_that_a_signal_ends_says_how_to_go_on_and_that_works(tmp_path, imbsam, number, expected):
    words = ("train", "digits", *LONG, "--workers", 2, "--out", "run")
    code, err = interrupted(tmp_path, *words, begun="run/last.ckpt", number=number)
    assert code == expected
    assert err.strip().splitlines() == [
        "interrupted. The checkpoint is kept; resume with:",
        "  imbsam train --resume run",
    ]
    assert not list((tmp_path / "run").glob(".*"))
    assert not (tmp_path / "run" / "result.json").exists()
    assert imbsam("train", "--resume", "run", "--workers", "0", "--quiet").code == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, EPOCHS + 1))


@pytest.mark.slow
def test_a_comparison_that_is_interrupted_goes_on_by_the_same_command(tmp_path, imbsam):
    words = ["compare", "digits", "--methods", "sgd", "sam", "--seeds", 1, "--jobs", 2, *LONG, "--out", "c"]
    code, err = interrupted(tmp_path, *words, begun="c/runs/*/last.ckpt")
    assert code == 130
    assert err.strip().splitlines() == [
        "interrupted. Finished runs are kept; continue with the same command:",
        "  imbsam " + " ".join(map(str, words)),
    ]
    assert not list(tmp_path.glob("c/runs/*/result.json"))
    words[words.index("--jobs") + 1] = 1
    assert imbsam(*words).code == 0
    assert len(list(tmp_path.glob("c/runs/*/result.json"))) == 2
