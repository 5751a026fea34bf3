"""The tables in the benchmarks are those that their lines of JSON give."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("study", ["images", "tables"])
def test_a_study_s_tables_are_made_of_its_runs(tmp_path: Path, study: str) -> None:
    results = BENCHMARKS / study / "results"
    shutil.copy(results / "runs.jsonl", tmp_path)
    collect = BENCHMARKS / study / "collect.py"
    subprocess.run([sys.executable, collect, "--runs", tmp_path / "runs.jsonl"], check=True)
    assert (tmp_path / "tables.md").read_text() == (results / "tables.md").read_text()
