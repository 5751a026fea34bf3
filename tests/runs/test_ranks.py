"""One run shared by real processes over gloo; the command as torchrun starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from imbsam.runs.folder import RunFolder
from imbsam.runs.ranks import World
from processes import logs, run_ranks
from reliability import small
from runs.rank_runs import EQUAL, PLAIN, stopped

TESTS = Path(__file__).parents[1]
DEADLINE = 150


def torchrun(ranks: int, *words: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [*command, str(TESTS / "runs" / "rank_command.py"), *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.source(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """A folder of runs for each number of processes."""
    folder = tmp_path_factory.mktemp("runs")
    for name, values in EQUAL.items():
        small.train(folder / "1" / name, parts, **values)
    stopped(RunFolder(folder / "1" / "stopped"), str(parts), World(), **PLAIN)
    for ranks in (2, 3):
        codes = run_ranks("runs/rank_runs.py", ranks, folder, str(parts), deadline=DEADLINE)
        assert codes == [0] * ranks, logs(folder, ranks)
    for ranks in (2, 3):
        run = small.copied(RunFolder(folder / str(ranks) / "stopped"), folder / "1" / f"{ranks} resumed")
        small.train(run.path, parts, **PLAIN)
    return folder


def assert_close(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> None:
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=0, atol=1e-12)


def assert_same_but_for_rounding(one: Path, other: Path) -> None:
    """In float64 some thirty sums of a hundred terms about 1 differ by less than 1e-13."""
    checkpoints = [RunFolder(path).read_checkpoint() for path in (one, other)]
    for weights, others in ([each.model for each in checkpoints], [each.measured for each in checkpoints]):
        assert_close(weights, others)
    lines, other_lines = (
        [json.loads(line) for line in RunFolder(path).metrics.read_text().splitlines()] for path in (one, other)
    )
    assert len(lines) == len(other_lines) == 2
    for line, other_line in zip(lines, other_lines, strict=True):
        assert other_line["train_loss"] == pytest.approx(line["train_loss"], abs=1e-6)
        assert other_line["validation"]["per_class"] == line["validation"]["per_class"]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", EQUAL)
def test_several_processes_come_to_what_one_comes_to(name: str, ranks: int, runs: Path) -> None:
    assert_same_but_for_rounding(runs / "1" / name, runs / str(ranks) / name)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1)])
def test_a_run_stopped_within_an_epoch_goes_on_with_another_number_of_processes(
    before: int, after: int, runs: Path
) -> None:
    assert RunFolder(runs / str(before) / "stopped").read_checkpoint().begun.losses
    assert_same_but_for_rounding(runs / "1" / "imbsam", runs / str(after) / f"{before} resumed")


@pytest.mark.parametrize("ranks", [2, 3])
def test_with_the_same_number_of_processes_it_goes_on_to_the_bit_dropout_included(ranks: int, runs: Path) -> None:
    resumed, whole = (small.outcome(runs / str(ranks) / name) for name in ("dropout, resumed", "dropout"))
    assert resumed == whole


def test_dropout_differs_by_rank(runs: Path) -> None:
    states = RunFolder(runs / "3" / "dropout").read_checkpoint().random
    assert len({small.digest(each) for each in states}) == len(states) == 3


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", ["bfloat16", "batch norm"])
def test_half_precision_and_batch_norm_train_as_well(name: str, ranks: int, runs: Path) -> None:
    lines = RunFolder(runs / str(ranks) / name).metrics.read_text().splitlines()
    first, last = (json.loads(line)["train_loss"] for line in lines)
    assert last < first


def told(folder: Path, ranks: int, err: str) -> list[str]:
    """What the command said, torchrun's own words aside, once all processes have ended with code 2."""
    codes = [(folder / f"code-{rank}").read_text() for rank in range(ranks)]
    assert codes == ["2"] * ranks, err[-5000:]
    return [line for line in err.splitlines() if line.startswith("imbsam: ")]


def command(folder: Path, ranks: int, *words: object) -> tuple[str, str]:
    return ended(torchrun(ranks, *words, cwd=folder))


TRAIN: Sequence[object] = ("--target", "kind", "--batch-size", 14, "--track", "none", "--out", "run")


@pytest.mark.slow
def test_other_commands_are_refused_in_every_process(tmp_path: Path) -> None:
    _, err = command(tmp_path, 2, "compare", "digits")
    assert told(tmp_path, 2, err) == [
        "imbsam: imbsam compare does not run in several processes: start it without torchrun."
    ]


def test_a_loss_that_is_nan_ends_every_process_and_is_said_once(tmp_path: Path, parts: Path) -> None:
    _, err = command(tmp_path, 2, "train", parts, *TRAIN, "--lr", 1e30)
    (line,) = told(tmp_path, 2, err)
    assert "NaN or infinite" in line


@pytest.mark.slow
def test_what_one_process_raises_within_a_step_ends_every_process(tmp_path: Path, parts: Path) -> None:
    _, err = command(tmp_path, 2, "train", parts, *TRAIN, "--model", "runs.rank_models:broken")
    assert set(told(tmp_path, 2, err)) == {"imbsam: rank 1: Traceback (most recent call last):"}
    assert "ZeroDivisionError: the model broke" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, "130"), (signal.SIGTERM, "143")])
def test_a_signal_to_torchrun_stops_every_process_at_one_checkpoint(
    tmp_path: Path, parts: Path, number: int, code: str
) -> None:
    process = torchrun(2, "train", parts, *TRAIN, "--epochs", 100000, "--quiet", cwd=tmp_path)
    until = time.monotonic() + DEADLINE
    while not (tmp_path / "run" / "last.ckpt").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = ended(process)
    assert [(tmp_path / f"code-{rank}").read_text() for rank in range(2)] == [code] * 2
    assert err.count("interrupted. The checkpoint is kept; resume with:\n  imbsam train --resume run\n") == 1
    assert RunFolder(tmp_path / "run").read_checkpoint().progress.epoch >= 1
