"""Images with rare classes, by ../PROTOCOL.md; finished runs are kept, so it goes on where it was interrupted.

    python benchmarks/images/run.py SOURCES [--jobs 2] [--stages tune-cifar main-cifar ...] [--runs FILE]
        [--methods ImbSAM SAM ...]

SOURCES is a folder with ``cifar10`` (its Parquet files) and ``fashion-mnist`` (its IDX files). A line of JSON for each
run is added to results/runs.jsonl, or FILE; `collect.py` makes tables and figures of them.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import lines
import pools
from methods import ABLATION_RHO, ABLATIONS, BEYOND, CORE, LATE, LEFT, LOSSES, METHODS, Configuration
from train import carried_out

RESULTS = Path(__file__).parent / "results" / "runs.jsonl"
KEY = ("stage", "set", "imbalance", "loss", "method", "number", "seed")
CONFIGURATIONS = {**METHODS, **BEYOND}
TUNING_SEED = 100
SEEDS, ABLATION_SEEDS = range(5), range(3)
SETS = ("fashion-mnist", "cifar10")
BESIDE = (("cifar10", 10), ("cifar10", 50), ("cifar10", 200))


@dataclass(frozen=True)
class Job:
    """One run."""

    stage: str
    set: str
    imbalance: int
    loss: str
    method: str
    number: int
    seed: int
    values: Configuration = field(compare=False)

    @property
    def key(self) -> tuple[object, ...]:
        """What it goes by."""
        return tuple(getattr(self, name) for name in KEY)


def pairs(losses: Iterable[str], methods: Iterable[str]) -> list[tuple[str, str]]:
    """Losses and methods that go together: a loss that is re-weighted is not re-weighted again."""
    return [
        (loss, method)
        for loss, method in product(losses, methods)
        if (loss, method) != ("LDAM-DRW", "SAM+DRW")
        and (loss == "CE" or "reweight_from" not in CONFIGURATIONS[method][0])
    ]


def tuning(name: str, losses: Sequence[str], methods: Iterable[str]) -> list[Job]:
    """Every configuration of every method, at a seed that counts nowhere else."""
    return [
        Job("tune", name, 100, loss, method, number, TUNING_SEED, {**LOSSES[loss], **values})
        for loss, method in pairs(losses, methods)
        for number, values in enumerate(CONFIGURATIONS[method])
    ]


def main_runs(
    made: Sequence[Mapping[str, object]],
    name: str,
    imbalance: int,
    losses: Sequence[str],
    methods: Iterable[str],
) -> list[Job]:
    """Each method in the configuration that validation chose, seeds outermost."""
    jobs = []
    for seed in SEEDS:
        for loss, method in pairs(losses, methods):
            number = chosen(made, name, loss, method)
            values = {**LOSSES[loss], **CONFIGURATIONS[method][number]}
            stage = "main" if method in METHODS else "beyond"
            jobs.append(Job(stage, name, imbalance, loss, method, number, seed, values))
    return jobs


def chosen(made: Sequence[Mapping[str, object]], name: str, loss: str, method: str) -> int:
    """The configuration with the highest balanced accuracy on the validation data of the tuning seed."""
    tried = {
        run["number"]: run["validation"]["balanced"]
        for run in made
        if (run["stage"], run["set"], run["loss"], run["method"]) == ("tune", name, loss, method)
    }
    asked = len(CONFIGURATIONS[method])
    if len(tried) != asked:
        raise SystemExit(f"{name}, {loss}, {method}: {len(tried)} of {asked} configurations are tuned.")
    return max(tried, key=tried.__getitem__)


def ablations(name: str, losses: Sequence[str]) -> list[Job]:
    """One thing changed at a time, without tuning."""
    return [
        Job("ablation", name, 100, loss, variant, 0, seed, {**LOSSES[loss], **own, **_usual_rho(own)})
        for seed in ABLATION_SEEDS
        for loss in losses
        for variant, own in ABLATIONS.items()
    ]


def _usual_rho(own: Configuration) -> Configuration:
    return {} if "rho" in own or own["method"] == "sgd" else {"rho": ABLATION_RHO}


def carry_out(job: Job, sources: Path) -> dict[str, object]:
    """Make a run, in whatever process this is."""
    dataset = pools.drawn(job.set, _pool(job.set, sources), job.imbalance, job.seed)
    found = carried_out(dataset, job.values, job.seed, look=job.stage in ("main", "beyond"))
    return {**asdict(job), **found}


@cache
def _pool(name: str, sources: Path) -> pools.Pool:
    return pools.read(name, sources)


def make(jobs: Sequence[Job], sources: Path, workers: int, runs: Path) -> None:
    """Make the runs that are missing."""
    made = lines.finished(runs, KEY)

    def scores(run: Mapping[str, object]) -> str:
        return f"{run['test']['balanced']:.1f} / {run['test']['few']:.1f}, {run['seconds']} s"

    left = {job.key: job for job in jobs if job.key not in made}
    lines.make(left, partial(carry_out, sources=sources), runs, workers, scores)


def stages(only: Sequence[str] | None = None) -> dict[str, object]:
    """What is done, in this order, of all methods or only some; each looks at the runs that are there."""
    tuned, weighted = ("CE", "LA"), ("LDAM-DRW",)
    methods, beyond, core, late = (
        [name for name in group if only is None or name in only] for group in (METHODS, BEYOND, CORE, LATE)
    )
    taken = beyond if only else [name for name in beyond if name not in LEFT]
    return {
        "tune-fashion": lambda made: tuning("fashion-mnist", tuned, methods),
        "main-fashion": lambda made: main_runs(made, "fashion-mnist", 100, tuned, methods),
        "ablations-fashion": lambda made: ablations("fashion-mnist", tuned),
        "tune-cifar": lambda made: tuning("cifar10", tuned, methods),
        "main-cifar": lambda made: main_runs(made, "cifar10", 100, tuned, methods),
        "tune-ldam": lambda made: [job for name in SETS for job in tuning(name, weighted, methods)],
        "main-ldam": lambda made: [job for name in SETS for job in main_runs(made, name, 100, weighted, methods)],
        "beside": lambda made: [
            job for losses in (tuned, weighted) for at in BESIDE for job in main_runs(made, *at, losses, core)
        ],
        "tune-beyond-fashion": lambda made: tuning("fashion-mnist", tuned, beyond),
        "beyond-fashion": lambda made: main_runs(made, "fashion-mnist", 100, tuned, beyond),
        "tune-beyond-cifar": lambda made: tuning("cifar10", tuned, taken),
        "beyond-cifar": lambda made: main_runs(made, "cifar10", 100, tuned, taken),
        "beside-late": lambda made: [job for at in BESIDE for job in main_runs(made, *at, ("CE",), late)],
        "ablations-cifar": lambda made: ablations("cifar10", tuned),
    }


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stages", nargs="+", default=list(stages()), choices=list(stages()))
    parser.add_argument("--runs", type=Path, default=RESULTS)
    parser.add_argument(
        "--methods", nargs="+", choices=list(CONFIGURATIONS), help="leave the others out; ablations are made whole"
    )
    asked = parser.parse_args()
    asked.runs.parent.mkdir(parents=True, exist_ok=True)
    for name in asked.stages:
        jobs = stages(asked.methods)[name](lines.read(asked.runs))
        make(jobs, asked.sources.resolve(), asked.jobs, asked.runs)


if __name__ == "__main__":
    main()
