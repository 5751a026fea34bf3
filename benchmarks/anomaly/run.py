"""Detectors against what a user would take instead, on the six sets of the Deep SAD paper; finished runs are kept.

    python benchmarks/anomaly/run.py --data FOLDER [--jobs 2] [--labels anomalies-0.05 ...] [--rest contaminated ...]

FOLDER holds arrhythmia.npz, cardio.npz, satellite.npz, satimage-2.npz, shuttle.npz and thyroid.npz, with arrays X and y
(1 = anomaly). A line of JSON for each run is added to results/runs.jsonl; `collect.py` makes tables of them. Two of the
peers are no dependencies of this project: `pip install xgboost tqdm catboost lightgbm` and `pip install --no-deps
deepod`, the latter because it pins a torch of 2022.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))

import lines
from methods import METHODS
from protocol import LABELS, REST, load, make_task, measures

RESULTS = Path(__file__).parent / "results" / "runs.jsonl"
KEY = ("rest", "labels", "seed", "set", "method")


@dataclass(frozen=True)
class Job:
    """Some methods on one task."""

    folder: Path
    rest: str
    labels: str
    seed: int
    name: str
    methods: tuple[str, ...]

    def __call__(self) -> Iterator[dict[str, object]]:
        torch.set_num_threads(1)
        task = make_task(*load(self.folder, self.name), self.seed, self.labels, self.rest)
        for method in self.methods:
            began = time.perf_counter()
            with warnings.catch_warnings():
                # Of the peers; what a detector warns of is tested with it.
                warnings.simplefilter("ignore")
                scores = METHODS[method](task, self.seed)
            yield {
                **dict(zip(KEY, (self.rest, self.labels, self.seed, self.name, method), strict=True)),
                **measures(scores, task.y_test),
                "labelled": int(task.y_train.sum()),
                "seconds": round(time.perf_counter() - began, 2),
            }


def jobs(asked: argparse.Namespace, finished: set[tuple[object, ...]]) -> Iterator[Job]:
    """What is left to do; labels outermost and seeds next, so that an interrupted study is a smaller study."""
    for rest, labels, seed, name in product(asked.rest, asked.labels, range(asked.seeds), asked.sets):
        left = tuple(method for method in asked.methods if (rest, labels, seed, name, method) not in finished)
        if left:
            yield Job(asked.data, rest, labels, seed, name, left)


def carry_out(job: Job) -> list[dict[str, object]]:
    return list(job())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", help="by default all of FOLDER")
    parser.add_argument("--labels", nargs="+", default=LABELS, choices=LABELS)
    parser.add_argument("--rest", nargs="+", default=REST, choices=REST)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    asked.sets = asked.sets or sorted(file.stem for file in asked.data.glob("*.npz"))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    left = list(jobs(asked, lines.finished(asked.out, KEY)))
    with ProcessPoolExecutor(asked.jobs) as pool:
        for number, (job, runs) in enumerate(zip(left, pool.map(carry_out, left), strict=True), start=1):
            for run in runs:
                lines.append(asked.out, run)
            print(f"{number}/{len(left)}", job.rest, job.labels, "seed", job.seed, job.name, flush=True)


if __name__ == "__main__":
    main()
