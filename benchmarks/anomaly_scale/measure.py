"""A million rows of 30 columns: the memory that training takes beside them, and how many rows are scored in a second.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE python benchmarks/anomaly_scale/measure.py

Each line is measured in a process of its own, on double precision rows of which 1000 are labelled anomalies. Memory is
the most that was resident during `fit` and scoring, less what was before (Python, torch and the rows). Of several
scorings the fastest counts, because other programs on the machine can only add time; the load average tells whether
there were any, and threads that wait passively do not fight with them. Training is one epoch: further ones take the
same memory. Prints JSON, writes it beside this file.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from imbsam.anomaly import AnomalyDetector

THREADS, ROWS, COLUMNS, ANOMALIES, REPEATS = 2, 1_000_000, 30, 1000, 5
CASES = [
    ("hsc", "double"),
    ("hsc", "single"),
    ("devnet", "double"),
    ("devnet", "single"),
    ("deep-sad", "double"),
    ("rosas", "double"),
]


def main() -> None:
    result = {
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {THREADS} threads",
        "load_average": round(os.getloadavg()[0], 1),
        "rows": ROWS,
        "columns": COLUMNS,
        "data_mib": ROWS * COLUMNS * 8 // 2**20,
        "detectors": [measured_apart(*case) for case in CASES],
    }
    text = json.dumps(result, indent=2)
    print(text)
    Path(__file__).with_name("results.json").write_text(text + "\n")


def measured_apart(objective: str, precision: str) -> dict[str, object]:
    command = [sys.executable, __file__, objective, precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measured(objective: str, precision: str) -> dict[str, object]:
    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    rows, known = rng.standard_normal((ROWS, COLUMNS)), np.zeros(ROWS, dtype=np.int8)
    known[:ANOMALIES] = 1
    rows[:ANOMALIES] += 2
    detector = AnomalyDetector(objective, precision=precision, epochs=1, batch_size=1024, random_state=0)
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    detector.fit(rows, known)
    fitted = time.perf_counter() - began
    fastest = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        detector.score_samples(rows)
        fastest = min(fastest, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "objective": objective,
        "precision": precision,
        "epoch_seconds": round(fitted, 1),
        "peak_mib_beyond_the_data": round((peak - before) / 2**20),
        "million_rows_scored_per_second": round(ROWS / fastest / 1e6, 2),
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measured(*sys.argv[1:])))
    else:
        main()
