"""The measurement of a step's price runs, and goes on where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

MEASURE = Path(__file__).parents[1] / "benchmarks" / "speed" / "measure.py"


def measure(out: Path, *options: str) -> str:
    command = [sys.executable, MEASURE, "--rounds", "1", "--workloads", "digits", "--out", out, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_each_batch_and_precision_is_timed_once(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    assert len(measure(out, "--batches", "32").splitlines()) == 3
    lines = measure(out, "--batches", "32", "64", "--precisions", "float32", "bfloat16").splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["digits", batch, tail_rows, precision]
        for batch, precision, numbers in (
            ("32", "bfloat16", "013"),
            ("64", "float32", "026"),
            ("64", "bfloat16", "026"),
        )
        for tail_rows in numbers
    ]
    cases = json.loads(out.read_text())["cases"]
    assert len(cases) == 12
    assert all(case["steps"]["plain"]["ratio"] == 1 and case["steps"]["ImbSAM"]["ms"] > 0 for case in cases)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_where_there_is_no_cuda_nothing_is_timed(tmp_path: Path) -> None:
    assert "nothing is timed" in measure(tmp_path / "speed.json", "--device", "cuda")
    assert not (tmp_path / "speed.json").exists()
