"""A million rows of 30 columns: the memory that training takes beside them, and how many rows are scored in a second.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE python benchmarks/scale/measure.py [CASE ...]

Each case is measured in a process of its own, on double precision rows: detectors, 1000 of whose rows are labelled
anomalies, and the blend that `imbsam train` takes for tables, of three classes, the rarest of 1000 rows. Memory is the
most that was resident during `fit` and scoring, less what was before (Python, torch and the rows). Of several scorings
the fastest counts, because other programs on the machine can only add time; the load average tells whether there were
any, and threads that wait passively do not fight with them. A single network is trained for one epoch (further ones
take the same memory), a blend wholly. Prints JSON, writes it beside this file; cases not named keep what they had.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from imbsam.anomaly import AnomalyDetector
from imbsam.estimators import BlendClassifier

THREADS, ROWS, COLUMNS, RARE, REPEATS = 2, 1_000_000, 30, 1000, 5
RESULTS = Path(__file__).with_name("results.json")

Fitted = tuple[float, dict[str, Callable[[], object]]]
"""Seconds of `fit`, and what scores all rows."""


def detector(objective: str, precision: str) -> Callable[[np.ndarray], Fitted]:
    length = {} if objective == "blend" else {"epochs": 1, "batch_size": 1024}

    def fit(rows: np.ndarray) -> Fitted:
        known = np.zeros(ROWS, dtype=np.int8)
        known[:RARE] = 1
        made = AnomalyDetector(objective, precision=precision, random_state=0, **length)
        return timed(lambda: made.fit(rows, known)), {"all": lambda: made.score_samples(rows)}

    return fit


def table(rows: np.ndarray) -> Fitted:
    """Each member is asked alone, too."""
    y = np.arange(ROWS) % 10 == 1
    y = np.where(np.arange(ROWS) < RARE, 2, y)
    made = BlendClassifier(random_state=0, n_jobs=THREADS)
    seconds = timed(lambda: made.fit(frame(rows), y))
    alone = {model.name: (lambda model=model: ask(made, model, rows)) for model in made._blended.models}
    return seconds, {"all": lambda: made.predict_proba(frame(rows)), **alone}


def ask(made: BlendClassifier, model: object, rows: np.ndarray) -> None:
    for start in range(0, ROWS, 65536):
        model.evidence(made._reading.rows(frame(rows[start : start + 65536])).of(model.view))


def frame(rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[str(place) for place in range(rows.shape[1])])


CASES = {
    "table": table,
    **{
        f"{objective}, {precision}": detector(objective, precision)
        for objective, precision in (
            ("blend", "double"),
            ("blend", "single"),
            ("hsc", "double"),
            ("hsc", "single"),
            ("devnet", "double"),
            ("devnet", "single"),
            ("deep-sad", "double"),
            ("rosas", "double"),
        )
    },
}


def main(asked: list[str]) -> None:
    known = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else {}
    found = {}
    for case in asked or CASES:
        done = subprocess.run([sys.executable, __file__, "--one", case], check=True, stdout=subprocess.PIPE, text=True)
        found[case] = json.loads(done.stdout)
        print(case, done.stdout, flush=True)
    result = {
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {THREADS} threads",
        "rows": ROWS,
        "columns": COLUMNS,
        "data_mib": ROWS * COLUMNS * 8 // 2**20,
        "cases": {case: found.get(case, known.get(case)) for case in CASES if case in found or case in known},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def measured(case: str) -> dict[str, object]:
    torch.set_num_threads(THREADS)
    rows = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    rows[:RARE] += 2
    before = psutil.Process().memory_info().rss
    fitted, ways = CASES[case](rows)
    fastest = {way: min(timed(score) for _ in range(REPEATS)) for way, score in ways.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "load_average": round(os.getloadavg()[0], 1),
        "fit_seconds": round(fitted, 1),
        "peak_mib_beyond_the_data": round((peak - before) / 2**20),
        "million_rows_scored_per_second": {way: round(ROWS / taken / 1e6, 3) for way, taken in fastest.items()},
    }


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(sys.argv[2])))
    else:
        main(sys.argv[1:])
