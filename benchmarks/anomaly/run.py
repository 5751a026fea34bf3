"""Detectors against what a user would take instead, on the six sets of the Deep SAD paper; finished runs are kept.

    python benchmarks/anomaly/run.py --data FOLDER [--labels anomalies-0.05 ...] [--rest contaminated ...] [--seeds 10]

FOLDER holds arrhythmia.npz, cardio.npz, satellite.npz, satimage-2.npz, shuttle.npz and thyroid.npz, with arrays X and y
(1 = anomaly). A line of JSON for each run is added to results/runs.jsonl; `collect.py` makes tables of them. The labels
of the detectors are 1 and 0; every method is fitted on the training rows alone, scaling included, and its options are
its own defaults, the same for every set.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from protocol import LABELS, REST, SETS, Task, load, make_task, measures
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imbsam.anomaly import AnomalyDetector

RESULTS = Path(__file__).parent / "results" / "runs.jsonl"
STEPS = 2000
"""Of a network, so that a large set does not cost more than the others together."""
BATCH = 128
Score = Callable[[Task, int], np.ndarray]


def supervised(make: Callable[[int], object]) -> Score:
    """A classifier of labelled anomalies against all other rows."""

    def score(task: Task, seed: int) -> np.ndarray:
        model = make(seed).fit(task.X_train, task.y_train)
        return model.predict_proba(task.X_test)[:, 1]

    return score


def isolation_forest(task: Task, seed: int) -> np.ndarray:
    """Without labels."""
    return -IsolationForest(random_state=seed).fit(task.X_train).score_samples(task.X_test)


def detector(objective: str, method: str) -> Score:
    """One of ours; threshold calibration, which costs a fifth of the rows, has no part in a ranking."""

    def score(task: Task, seed: int) -> np.ndarray:
        epochs = int(np.clip(STEPS * BATCH / len(task.X_train), 5, 50))
        options = {"objective": objective, "method": method, "epochs": epochs, "batch_size": BATCH}
        found = AnomalyDetector(**options, contamination=0.1, precision="single", random_state=seed)
        return -found.fit(task.X_train, task.y_train).score_samples(task.X_test)

    return score


METHODS: dict[str, Score] = {
    "logistic regression": supervised(
        lambda seed: make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    ),
    "random forest": supervised(lambda seed: RandomForestClassifier(class_weight="balanced", random_state=seed)),
    "gradient boosting": supervised(
        lambda seed: HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
    ),
    "isolation forest": isolation_forest,
    **{
        f"{objective}, {name}": detector(objective, method)
        for objective in ("hsc", "devnet")
        for name, method in {"Adam": "plain", "SAM": "sam", "ImbSAM": "imbsam"}.items()
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--labels", nargs="+", default=list(LABELS), choices=LABELS)
    parser.add_argument("--rest", nargs="+", default=list(REST), choices=REST)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = set()
    if RESULTS.exists():
        lines = map(json.loads, RESULTS.read_text().splitlines())
        done = {(r["set"], r["labels"], r["rest"], r["seed"], r["method"]) for r in lines}
    RESULTS.parent.mkdir(exist_ok=True)
    sets = {name: load(asked.data, name) for name in asked.sets}
    # Seeds outermost: an interrupted study is a smaller study.
    for seed in range(asked.seeds):
        for rest in asked.rest:
            for labels in asked.labels:
                for name, (X, y) in sets.items():
                    task = make_task(X, y, seed, labels, rest)
                    for method in asked.methods:
                        key = (name, labels, rest, seed, method)
                        if key not in done:
                            began = time.perf_counter()
                            found = measures(METHODS[method](task, seed), task.y_test)
                            run = dict(zip(("set", "labels", "rest", "seed", "method"), key, strict=True))
                            run |= {**found, "labelled": int(task.y_train.sum())}
                            run["seconds"] = round(time.perf_counter() - began, 2)
                            with RESULTS.open("a") as file:
                                file.write(json.dumps(run) + "\n")
                    print(seed, rest, labels, name, flush=True)


if __name__ == "__main__":
    main()
