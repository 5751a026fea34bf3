"""Real commands in processes of their own that are killed (SIGKILL) at random moments.

python tests/reliability/kills.py [COUNT [NAME ...]]  kills each of train, compare, tune and anomaly so many
times (200).
"""

import json
import multiprocessing.connection
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.pyplot  # noqa: F401
import optuna  # noqa: F401

import imbsam.cli.actions
import imbsam.cli.anomaly
import imbsam.cli.tune  # noqa: F401 - forks need not import it
from imbsam.cli import main
from reliability import small

SMALL = [
    "--threads",
    "1",
    "--track",
    "none",
    "--quiet",
    "--batch-size",
    "14",
    "--hidden",
    "4",
    "--lr",
    "0.05",
    "--target",
    "kind",
]


@dataclass(frozen=True)
class Work:
    """A command, and what it comes to.

    Args:
        first: Its words.
        again: Its words once it was killed, in a folder that holds what is left.
        outcome: Of a folder in which it ended.
    """

    first: Sequence[str]
    again: Callable[[Path], Sequence[str]]
    outcome: Callable[[Path], object]


def train(epochs: int) -> Work:
    words = ["train", "parts.csv", *SMALL, "--method", "imbsam", "--epochs", str(epochs), "--out", "run"]

    def again(folder: Path) -> Sequence[str]:
        begun = (folder / "run" / "config.yaml").exists()
        return ["train", "--resume", "run", "--quiet"] if begun else words

    return Work(words, again, lambda folder: small.outcome(folder / "run"))


def compare(epochs: int, jobs: int = 1) -> Work:
    words = ["compare", "parts.csv", *SMALL, "--epochs", str(epochs), "--out", "c", "--seeds", "1", "--jobs", str(jobs)]
    words += ["--methods", "sgd", "imbsam"]
    runs = ["sgd-seed0", "imbsam-seed0"]

    def outcome(folder: Path) -> object:
        assert sorted(path.name for path in (folder / "c" / "runs").iterdir()) == sorted(runs)
        return [small.outcome(folder / "c" / "runs" / name) for name in runs]

    return Work(words, lambda folder: words, outcome)


def tune(epochs: int, trials: int = 3) -> Work:
    words = ["tune", "parts.csv", *SMALL, "--method", "imbsam", "--epochs", str(epochs), "--out", "t", "--jobs", "1"]
    words += ["--search", "rho", "tail=auto|rarest-classes=0.4", "--trials", str(trials)]
    runs = [f"trial{number:04}-seed0" for number in range(trials)]

    def outcome(folder: Path) -> object:
        assert sorted(path.name for path in (folder / "t" / "runs").iterdir()) == runs
        tried = json.loads((folder / "t" / "tune.json").read_text())["trials"]
        assert [trial["number"] for trial in tried] == list(range(trials))
        best = (folder / "t" / "best.yaml").read_bytes()
        return tried, best, [small.outcome(folder / "t" / "runs" / name) for name in runs]

    return Work(words, lambda folder: words, outcome)


def anomaly(epochs: int) -> Work:
    words = ["anomaly", "fit", "log.csv", "--labels", "kind", "--anomaly", "broken", "--unlabelled", "good"]
    words += ["--normal", "scratched", "--epochs", str(epochs), "--members", "1", "--out", "d"]

    def again(folder: Path) -> Sequence[str]:
        return [*words, "--overwrite"] if (folder / "d" / "detector.json").exists() else words

    def outcome(folder: Path) -> object:
        return [(folder / "d" / name).read_bytes() for name in ("detector.safetensors", "detector.json")]

    return Work(words, again, outcome)


WORKS = {"train": train, "compare": compare, "tune": tune, "anomaly": anomaly}


def kill(work: Work, count: int, place: Path, seed: int = 0) -> dict[str, int]:
    """Kill the command at random moments, again and again until it ends, as often as it takes for ``count`` kills.

    Returns:
        How many kills there were, and how many times the command came to its end with the bytes of the undisturbed one.

    Raises:
        AssertionError: If it refused to go on, or ended with other bytes.
    """
    draw = random.Random(seed)
    straight = folder_with_data(place / "straight")
    began = time.monotonic()
    assert run(work.first, straight, None) == 0
    duration = time.monotonic() - began
    expected = work.outcome(straight)
    kills = ends = 0
    while kills < count:
        folder = folder_with_data(place / f"killed{ends}")
        words = work.first
        while (code := run(words, folder, draw.uniform(0.05, 1.1) * duration if kills < count else None)) is None:
            kills += 1
            words = work.again(folder)
        if code == 2 and _ended(folder, words):
            code = 0  # Killed between its last file and its end.
        assert code == 0, (folder / "log.txt").read_text()
        assert work.outcome(folder) == expected
        ends += 1
    return {"kills": kills, "ends": ends}


def _ended(folder: Path, words: Sequence[str]) -> bool:
    return "--resume" in words and (folder / "run" / "result.json").exists()


def folder_with_data(path: Path) -> Path:
    path.mkdir(parents=True)
    small.source(path)
    rows = (path / "parts.csv").read_text()
    (path / "log.csv").write_text(rows)
    return path


def run(words: Sequence[str], folder: Path, seconds: float | None) -> int | None:
    """Run the command; kill it after so many seconds, then ``None``, or give its exit code.

    It is a fork of this process, which has imported everything: no moment is spent on kills during imports.
    """
    child = os.fork()
    if child == 0:
        _be_the_command(words, folder)
    ended = multiprocessing.connection.wait([descriptor := os.pidfd_open(child)], seconds)
    os.close(descriptor)
    if not ended:
        # The command alone: the processes it started have to notice by themselves.
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if ended else None


def _be_the_command(words: Sequence[str], folder: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name in sys.argv[2:] or WORKS:
        with tempfile.TemporaryDirectory() as place:
            print(name, kill(WORKS[name](6), number, Path(place)), flush=True)
