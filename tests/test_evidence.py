"""The tables in the benchmarks and on the page of evidence are those that their lines of JSON give."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.parametrize("study", ["images", "tables"])
def test_a_study_s_tables_are_made_of_its_runs(tmp_path: Path, study: str) -> None:
    results = BENCHMARKS / study / "results"
    shutil.copy(results / "runs.jsonl", tmp_path)
    collect = BENCHMARKS / study / "collect.py"
    subprocess.run([sys.executable, collect, "--runs", tmp_path / "runs.jsonl"], check=True)
    assert (tmp_path / "tables.md").read_text() == (results / "tables.md").read_text()


def test_the_page_of_evidence_is_made_of_the_studies(tmp_path: Path) -> None:
    subprocess.run([sys.executable, BENCHMARKS / "evidence.py", "--out", tmp_path], check=True)
    for made, held in (("evidence.md", "docs"), ("evidence.json", "benchmarks/results")):
        assert (tmp_path / made).read_text() == (ROOT / held / made).read_text()
