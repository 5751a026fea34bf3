"""CIFAR-100-LT at 200 epochs, by ../PROTOCOL.md: each run is an `imbsam train`, in an order in which a part is a study.

    python benchmarks/images/long.py CIFAR100 FOLDER [--jobs 1] [--methods SGD ImbSAM] [--seeds 0 1] [--runs FILE]

CIFAR100 is a folder with the data set's Parquet files. FOLDER is where the runs go; one that was interrupted is gone on
with. A finished run becomes a line of results/long.jsonl, or of FILE, and the lines become a table beside it with what
the papers report; without CIFAR100 and FOLDER the table alone is made.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

import lines
from paired import interval

from imbsam.runs.folder import RunFolder

RUNS = Path(__file__).parent / "results" / "long.jsonl"
KEY = ("loss", "method", "seed")
METHODS = {"SGD": ["--method", "sgd"], "ImbSAM": ["--method", "imbsam"], "SAM": ["--method", "sam"]}
FURTHER = {
    "ImbSAM by rise": ["--method", "imbsam", "--ascent", "rise", "--rho", "0.5"],
    "SAM+DRW": ["--method", "sam-drw"],
}
OPTIONS = {
    "imbalance": 100,
    "rare": "last",
    "validation-fraction": 0.1,
    "augment": "cifar",
    "model": "resnet20",
    "tail": "fewer-than=20",
    "epochs": 200,
    "batch-size": 64,
    "lr": 0.01,
    "weight-decay": 0.001,
    "schedule": "cosine",
    "warmup": 0,
    "precision": "bfloat16",
    "threads": 1,
    "rho": 0.05,
    "sharp-from": 0,
    "sampler": "shuffle",
    "average": "none",
    "track": "none",
}
COMMON = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
LOSSES, SEEDS = ("cross-entropy", "logit-adjustment"), (0, 1)
MEASURES = ("many", "medium", "few", "overall")

PAPERS = """\
| reported by others, network, how measured | many | medium | few | all |
|---|---|---|---|---|
| SGD, read-me of ImbSAM, ResNet-34 | 77.8 | 46.6 | 13.5 | 47.6 |
| SAM, same | 79.7 | 49.3 | 12.4 | 48.9 |
| ImbSAM, same | 75.9 | 53.5 | 19.4 | 51.1 |
| SGD, read-me of SSE-SAM, ResNet-34 | 74.3 | 43.1 | 11.6 | 44.6 |
| SAM, same | 75.3 | 45.6 | 12.9 | 46.2 |
| ImbSAM, same | 72.3 | 50.4 | 16.6 | 47.9 |
| SGD, OFBD's re-run, ResNet-32 | 65.2 | 37.1 | 9.1 | 38.3 |

What differs: the network (ResNet-20 has 0.28 million weights, ResNet-34 21.3 million); theirs choose the epoch on
the test data and average each test image with its mirror image; ImbSAM's own code doubles the tail's loss, and
SSE-SAM's re-run of it divides the tail's loss by the number of its own rows. Here 50 images of each class choose the
epoch, so that 9,754 images train for their 10,847, and test images are looked at once, as they are.
"""


def jobs() -> list[tuple[str, str, int]]:
    """Loss, method and seed, the most telling runs first."""
    usual = [(loss, method, seed) for seed, loss, method in product(SEEDS, LOSSES, METHODS)]
    return usual + [("cross-entropy", method, seed) for seed, method in product(SEEDS, FURTHER)]


def make(job: tuple[str, str, int], source: Path, place: Path, runs: Path) -> None:
    """Train, or go on with it, and keep what came out."""
    loss, method, seed = job
    folder = place / f"{loss}-{method.replace(' ', '-')}-{seed}"
    if not (folder / "result.json").exists():
        given = [str(source), *COMMON, *{**METHODS, **FURTHER}[method], "--loss", loss, "--seed", str(seed)]
        asked = ["--resume", str(folder)] if folder.exists() else [*given, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "imbsam", "train", *asked], check=True)
    keep(folder, job, runs)


def keep(folder: Path, job: tuple[str, str, int], runs: Path) -> None:
    """Add the line of a finished run."""
    found = RunFolder(folder).read_result()
    shown = {}
    for split, scores in (("validation", found.validation), ("test", found.test), ("likeliest", found.likeliest)):
        assert scores is not None
        shown[split] = {measure: round(100 * (scores.of(measure) or 0.0), 3) for measure in (*MEASURES, "balanced")}
    cost = {"epoch": found.best_epoch, "cost": found.cost_ratio, "seconds": round(found.train_seconds)}
    lines.append(runs, {**dict(zip(KEY, job, strict=True)), **cost, **shown})


def table(found: pd.DataFrame) -> str:
    """The runs there are, means over seeds and paired differences, beside what others report."""
    rows, paired = [], []
    for loss in LOSSES:
        # The customary decision of each loss: by the likeliest class, or as logit adjustment has it.
        split = "likeliest" if loss == "cross-entropy" else "test"
        columns = [*(f"{split}.{measure}" for measure in MEASURES), "test.few", "test.balanced"]
        of_loss = found[found.loss == loss].set_index("seed")
        plain = of_loss[of_loss.method == "SGD"]
        for method in (*METHODS, *FURTHER):
            runs = of_loss[of_loss.method == method]
            if not len(runs):
                continue
            scores = " | ".join(interval(runs[column]) for column in columns)
            rows.append(f"| {method}, {loss} | {scores} | {runs.cost.mean():.2f} | {len(runs)} |")
            both = plain.index.intersection(runs.index)
            if method != "SGD" and len(both):
                gained = [interval(runs.loc[both, c] - plain.loc[both, c], signed=True) for c in columns]
                paired.append(f"| {method} over SGD, {loss} | {' | '.join(gained)} | | {len(both)} |")
    head = (
        "| ResNet-20 | many | medium | few | all | few, decided as if classes were equally frequent | all, same "
        "| rows | seeds |"
    )
    title = (
        "# CIFAR-100-LT, imbalance 100, 200 epochs\n\nTest recall in percent, by the likeliest class under "
        "cross-entropy and as if classes were equally frequent under logit adjustment. The epoch is chosen by balanced "
        "accuracy on validation data. Differences are paired by seed.\n"
    )
    return "\n".join([title, head, "|---|---|---|---|---|---|---|---|---|", *rows, *paired, "", PAPERS])


def main() -> None:
    """Make what is missing, and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *FURTHER], choices=[*METHODS, *FURTHER])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--runs", type=Path, default=RUNS)
    asked = parser.parse_args()

    def written() -> None:
        asked.runs.with_suffix(".md").write_text(table(lines.frame(asked.runs)))

    if asked.source is not None:
        os.environ["OMP_NUM_THREADS"] = "1"
        asked.folder.mkdir(parents=True, exist_ok=True)
        made = lines.finished(asked.runs, KEY)
        chosen = set(product(asked.losses, asked.methods, asked.seeds))
        with ThreadPoolExecutor(asked.jobs) as pool:
            missing = [job for job in jobs() if job in chosen and job not in made]
            for done in [pool.submit(make, job, asked.source, asked.folder, asked.runs) for job in missing]:
                done.result()
                written()
    written()


if __name__ == "__main__":
    main()
