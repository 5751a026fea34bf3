"""The tables in the benchmarks and on the pages are those that the studies' lines of JSON give."""

import importlib.util
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from imbsam.cli import main

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import lines  # noqa: E402
import paired  # noqa: E402


@cache
def printed(script: str) -> str:
    return subprocess.run([sys.executable, BENCHMARKS / script], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("study", "options", "made"),
    [
        ("images", ["--runs", "runs.jsonl"], "tables.md"),
        ("tables", ["--runs", "runs.jsonl"], "tables.md"),
        ("tables", ["--study", "peers", "--runs", "peers.jsonl"], "peers.md"),
        ("anomaly", ["--in", "."], "tables.md"),
        ("anomaly", ["--study", "blend", "--in", "."], "blend.md"),
    ],
)
def test_a_study_s_tables_are_made_of_its_runs(tmp_path: Path, study: str, options: list[str], made: str) -> None:
    results = BENCHMARKS / study / "results"
    for runs in results.glob("*.jsonl"):
        shutil.copy(runs, tmp_path)
    collect = BENCHMARKS / study / "collect.py"
    subprocess.run([sys.executable, collect, *options], check=True, cwd=tmp_path)
    assert (tmp_path / made).read_text() == (results / made).read_text()


@pytest.mark.parametrize("study", ["ladder", "long"])
def test_the_tables_of_longer_schedules_are_made_of_their_runs(tmp_path: Path, study: str) -> None:
    images = BENCHMARKS / "images"
    shutil.copy(images / "results" / f"{study}.jsonl", tmp_path)
    command = [sys.executable, images / f"{study}.py", "--runs", tmp_path / f"{study}.jsonl"]
    subprocess.run(command, check=True)
    assert (tmp_path / f"{study}.md").read_text() == (images / "results" / f"{study}.md").read_text()


def test_the_table_of_every_method_is_made_of_its_runs(tmp_path: Path) -> None:
    shown = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    page = tmp_path / "methods.md"
    page.write_text("<!-- family -->\n<!-- /family -->\n", encoding="utf-8")
    subprocess.run([sys.executable, BENCHMARKS / "family" / "run.py", "--page", page], check=True)
    assert page.read_text(encoding="utf-8") in shown


def test_the_page_of_evidence_is_made_of_the_studies(tmp_path: Path) -> None:
    subprocess.run([sys.executable, BENCHMARKS / "evidence.py", "--out", tmp_path], check=True)
    for made, held in (("evidence.md", "docs"), ("evidence.json", "benchmarks/results")):
        assert (tmp_path / made).read_text() == (ROOT / held / made).read_text()


def test_the_tables_of_the_first_results_are_made_of_their_runs() -> None:
    shown = (BENCHMARKS / "first_results" / "README.md").read_text(encoding="utf-8")
    for table in printed("first_results/table.py").split("\n\n")[1::2]:
        assert table.strip() in shown


def test_the_readme_s_table_of_the_demo_is_that_of_its_runs() -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "")
    runs = lines.frame(BENCHMARKS / "first_results" / "results" / "demo.jsonl")
    for name, method in (("SGD", "sgd"), ("SAM", "sam"), ("ImbSAM", "imbsam")):
        its = runs[runs.method == method]
        cells = [paired.interval(100 * its[f"test.{measure}"]) for measure in ("overall", "many", "medium", "few")]
        assert f"| {name} | {' | '.join(cells)} | {its.cost_ratio.mean():.2f} |" in shown
    few = paired.wide(runs, "test.few")
    assert f"ImbSAM is {100 * (few.imbsam - few.sgd).mean():.1f} points above SGD" in shown


def test_the_tables_of_the_page_of_speed_are_made_of_its_measurements() -> None:
    shown = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert all(part.strip() in shown for part in printed("speed/table.py").split("\n\n"))


def test_whole_runs_are_told_once_each_has_a_short_and_a_long_one() -> None:
    spec = importlib.util.spec_from_file_location("speed_table", BENCHMARKS / "speed" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    made = [("SGD", 1, 6.0, 500), ("SGD", 2, 10.0, 510), ("train", 1, 7.0, 600), ("train", 2, 9.0, 620)]
    runs = [{"what": w, "epochs": e, "cpu_seconds": s, "peak_mib": m, "repeat": 0} for w, e, s, m in made]
    found = {"images": 1024, "order": ["SGD", "train"], "torch": "2", "runs": runs}
    rows = table.whole_runs(found).splitlines()
    assert "| SGD | 256 | 1.00 | 510 | 2.0 |" in rows
    assert "| train | 512 | 2.00 | 620 | 5.0 |" in rows
    assert table.whole_runs({**found, "runs": runs[:3]}) == ""


def test_a_comparison_takes_the_place_of_its_earlier_lines(tmp_path: Path) -> None:
    compared, results = tmp_path / "compared", tmp_path / "runs.jsonl"
    words = "compare digits --epochs 1 --methods sgd imbsam:rho=0.1 --seeds 1 --jobs 1 --threads 1 --track none --out"
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), str(compared)])
    assert ended.value.code == 0
    results.write_text('{"comparison": "compared", "seed": 7}\n{"comparison": "another"}\n')
    subprocess.run([sys.executable, BENCHMARKS / "comparisons.py", results, compared], check=True)
    other, sgd, imbsam = map(json.loads, results.read_text().splitlines())
    assert other == {"comparison": "another"}
    assert (sgd["method"], imbsam["method"], imbsam["seed"]) == ("sgd", "imbsam:rho=0.1", 0)
    assert imbsam["config"]["rho"] == 0.1
    result = json.loads((compared / "runs/imbsam-rho=0.1-seed0/result.json").read_text())
    assert imbsam["test"]["few"] == result["test"]["few"]
