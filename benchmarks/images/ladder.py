"""What each plain tool adds on top of the others, and what a step adds on each rung, by ../PROTOCOL.md.

    PYTHONPATH=benchmarks/images OMP_NUM_THREADS=1 python benchmarks/images/ladder.py SOURCES [--jobs 1] [--runs FILE]

SOURCES is a folder with ``solar_infrared`` and ``cifar10`` (their Parquet files) and ``fashion-mnist`` (IDX files). A
run is a line of results/ladder.jsonl, or of FILE; an interrupted study goes on, and is a smaller study before. The
lines become tables beside it; without SOURCES these alone are made.
"""

import argparse
import operator
import sys
import tempfile
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch

sys.path.append(str(Path(__file__).parents[1]))

import lines
import pools
from paired import interval, wide
from train import carried_out

from imbsam.config import Options
from imbsam.metrics import MEASURES
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.retraining import retrain
from imbsam.runs.retraining_options import RetrainingOptions
from imbsam.training.methods import with_own_options

RUNS = Path(__file__).parent / "results" / "ladder.jsonl"
KEY = ("set", "rung", "method", "seed")
SETS = {"solar_infrared": 12, "cifar10": 30, "fashion-mnist": 30}
"""Epochs on each set."""
COMMON: Mapping[str, object] = {
    "model": "networks:resnet8",
    "batch_size": 64,
    "rho": 0.05,
    "sampler": "shuffle",
    "average": "none",
    "precision": "bfloat16",
    "threads": 1,
    "track": "none",
}
PLAIN: Mapping[str, object] = {
    "sampler": "shuffle",
    "augment": "none",
    "loss": "cross-entropy",
    "class_prior": ["training"],
}
CROPPED: Mapping[str, object] = {**PLAIN, "augment": "cifar"}
ADJUSTED: Mapping[str, object] = {"sampler": "shuffle", "augment": "cifar", "loss": "logit-adjustment"}
AVERAGED: Mapping[str, object] = {**ADJUSTED, "average": "ema", "average_decay": 0.99}
RUNGS: Mapping[str, Mapping[str, object]] = {
    "plain": PLAIN,
    "cropped": CROPPED,
    "logit adjustment": ADJUSTED,
    "averaged": AVERAGED,
    "averaged, second stage": AVERAGED,
    "logit adjustment, repeated": {**ADJUSTED, "sampler": "repeated"},
    "averaged, repeated": {**AVERAGED, "sampler": "repeated"},
    "averaged, repeated, border": {**AVERAGED, "sampler": "repeated", "augment": "crop"},
    "averaged, mixup": {**AVERAGED, "mix": "mixup", "mix_until": 0.8},
    "averaged, TrivialAugment": {**AVERAGED, "augment": "trivial"},
}
"""Each adds one thing to an earlier one; decisions are as if classes were equally frequent from the loss on."""
SECOND = "averaged, second stage"
METHODS: Mapping[str, Mapping[str, object]] = {
    "SGD": {"method": "sgd"},
    "ImbSAM, late": {"method": "imbsam", "sharp_from": 2 / 3},
    "ImbSAM, once learned": {"method": "imbsam", "sharp_from": 2 / 3, "sharp_recall": 0.8},
    "ImbSAM": {"method": "imbsam", "sharp_from": 0.0},
    "SAM": {"method": "sam"},
    "LE-SAM on the tail": {"method": "imbsam", "sharp_from": 0.0, "ascent": "rise", "rho": 0.5},
}
PUBLISHED: Mapping[str, Mapping[str, object]] = {
    # Decided by the likeliest class of what they output, which their weights have made more even.
    "SAM+DRW": {"method": "sam-drw", "class_prior": ["loss"]},
    "balanced SAM": {"method": "balanced-sam", "class_prior": ["loss"]},
    "Focal-SAM": {"method": "focal-sam"},
    "SSE-SAM": {"method": "sse-sam"},
    "SAM-A on the tail": {"method": "tail-sam-a"},
}
"""Further class-aware methods with their own rho, on cropped images alone: what the default is measured against."""
DEFAULT = ("averaged, repeated, border", "ImbSAM, once learned")
SINGLE = ("cropped", "logit adjustment")
"""Rungs on which a method stands for itself."""
Job = tuple[str, str, str, int]


def jobs(seeds: int) -> list[Job]:
    """Set, rung, method and seed, seeds outermost."""
    every = [
        job
        for seed, name in product(range(seeds), SETS)
        for job in [*product([name], RUNGS, METHODS, [seed]), *product([name], ["cropped"], PUBLISHED, [seed])]
    ]
    # The classifier is made anew for every set that is read from its files.
    return [
        (name, rung, method, seed) for name, rung, method, seed in every if rung != SECOND or name not in pools.POOL
    ]


def carry_out(job: Job, sources: Path) -> dict[str, object]:
    """Make a run, in whatever process this is."""
    torch.set_num_threads(1)
    name, rung, method, seed = job
    values = {**COMMON, **RUNGS[rung], **{**METHODS, **PUBLISHED}[method], "epochs": SETS[name]}
    if method in PUBLISHED:
        del values["rho"]
    about = dict(zip(KEY, job, strict=True))
    if name in pools.POOL:
        found = carried_out(pools.drawn(name, _pool(name, sources), 100, seed), values, seed, look=False)
        return {**about, **found}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        first = Path(place) / "first"
        options = with_own_options(Options(), {**values, "seed": seed})
        result = fit(RunFolder(first), str(sources / name), options)
        if rung == SECOND:
            result = retrain(first, Path(place) / "second", RetrainingOptions(), model="networks:resnet8")
    kept = {
        split: {measure: round(100 * (scores.of(measure) or 0.0), 3) for measure in MEASURES}
        for split, scores in (("validation", result.validation), ("test", result.test))
        if scores is not None
    }
    return {**about, "epoch": result.best_epoch, "cost": result.cost_ratio, "seconds": result.train_seconds, **kept}


@cache
def _pool(name: str, sources: Path) -> pools.Pool:
    return pools.read(name, sources)


def scores(run: Mapping[str, object]) -> str:
    """Balanced accuracy and tail recall on test data."""
    return f"{run['test']['balanced']} {run['test']['tail']}"


def write(runs: Path) -> None:
    """Write the tables of the runs there are."""
    runs.with_suffix(".md").write_text(tables(lines.frame(runs)))


def tables(found: pd.DataFrame) -> str:
    """Balanced accuracy and tail recall of every rung, and the steps' differences to SGD on it."""
    parts = ["# What the plain tools add, and the steps on top of them\n"]
    for name in [name for name in SETS if name in set(found.set)]:
        parts += [
            _table(found[found.set == name], f"{name}, {SETS[name]} epochs", measure)
            for measure in ("balanced", "tail")
        ]
        parts.append(_beside_the_default(found[found.set == name], f"{name}, {SETS[name]} epochs"))
    return "\n".join(parts)


def _table(runs: pd.DataFrame, title: str, measure: str) -> str:
    """SGD's score of each rung on validation and test data, and the paired differences of the others on test data."""
    others = [method for method in METHODS if method != "SGD"]
    rows = []
    for rung in RUNGS:
        scores = wide(runs[runs.rung == rung], f"test.{measure}")
        if "SGD" not in scores:
            continue
        validation = wide(runs[runs.rung == rung], f"validation.{measure}")["SGD"].dropna()
        differences = [
            interval((scores[method] - scores["SGD"]).dropna(), signed=True) if method in scores else "-"
            for method in others
        ]
        plain = scores["SGD"].dropna()
        rows.append(
            f"| {rung} | {validation.mean():.1f} | {interval(plain)} | {' | '.join(differences)} | {len(plain)} |"
        )
    head = (
        f"| {title}: {measure} | SGD, validation | SGD, test | {' | '.join(f'{m}, over SGD' for m in others)} | seeds |"
    )
    return "\n".join([head, "|---" * (len(others) + 4) + "|", *rows, ""])


def _beside_the_default(runs: pd.DataFrame, title: str) -> str:
    """The whole default against every single method on test data, paired."""
    own = runs[(runs.rung == DEFAULT[0]) & (runs.method == DEFAULT[1])].set_index("seed")
    rows = []
    for rung in SINGLE:
        for method in (*METHODS, *PUBLISHED):
            other = runs[(runs.rung == rung) & (runs.method == method)].set_index("seed")
            both = own.index.intersection(other.index)
            if not len(both):
                continue
            cells = [rung, method]
            for measure in ("test.balanced", "test.tail"):
                difference = own.loc[both, measure] - other.loc[both, measure]
                cells += [interval(other.loc[both, measure]), interval(difference, signed=True)]
            rows.append(f"| {' | '.join(cells)} | {len(both)} |")
    if not rows:
        return ""
    head = f"| {title}: on top of | method | balanced | the default over it | tail | the default over it | seeds |"
    return "\n".join([head, "|---" * 7 + "|", *rows, ""])


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", type=Path, nargs="?")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS), choices=list(RUNGS))
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *PUBLISHED], choices=[*METHODS, *PUBLISHED])
    parser.add_argument("--runs", type=Path, default=RUNS)
    asked = parser.parse_args()
    if asked.sources is not None:
        made = lines.finished(asked.runs, KEY)
        asked_for = (asked.sets, asked.rungs, asked.methods)
        wanted = [job for job in jobs(asked.seeds) if all(map(operator.contains, asked_for, job[:3]))]
        missing = {job: job for job in wanted if job not in made}
        lines.make(missing, partial(carry_out, sources=asked.sources.resolve()), asked.runs, asked.jobs, scores)
    write(asked.runs)


if __name__ == "__main__":
    main()
