"""The tables in the benchmarks and on the page of evidence are those that their lines of JSON give."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imbsam.report import summarise

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


def test_the_readme_s_table_of_the_demo_is_made_of_its_runs() -> None:
    folder = BENCHMARKS / "first_results" / "results" / "digits" / "runs"
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    methods = {"sgd": "SGD", "sam": "SAM", "imbsam": "ImbSAM"}
    summary = summarise([run for run in runs if run["label"] in methods], labels=list(methods))
    shown = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "")
    for method, name in methods.items():
        scores = summary.scores[method]
        found = [
            f"{100 * e.mean:.1f} ± {100 * e.half_width:.1f}"
            for e in map(scores.get, ("overall", "many", "medium", "few"))
        ]
        assert f"| {name} | {' | '.join(found)} |" in shown
    gap = summary.differences["imbsam"]["few"]
    assert f"ImbSAM is {100 * gap.mean:.1f} points above SGD" in shown
