"""Tables of results/runs.jsonl, and the figure of mean ranks: writes results/tables.md and results/ranks.png.

    python benchmarks/anomaly/collect.py [--labels anomalies-0.05 ...] [--rest contaminated ...] [--runs FILE]

Only tasks that every method has finished count. Seeds of one set share its rows, so beside the test over all tasks
(set x seed) stands how many of the sets agree.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import matplotlib as mpl
import numpy as np
import pandas as pd
from lines import frame
from matplotlib import pyplot as plt
from paired import holm
from protocol import LABELS, REST
from scipy import stats

HERE = Path(__file__).parent / "results"
SUBJECTS = ("blend", "ImbSAM")
"""Compared with every other method; of a study that has both, only tasks count that both have finished."""
TASK = ["labels", "rest", "set", "seed"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", nargs="+", default=LABELS)
    parser.add_argument("--rest", nargs="+", default=REST)
    parser.add_argument("--runs", type=Path, default=HERE / "runs.jsonl")
    asked = parser.parse_args()
    runs = frame(asked.runs)
    runs = runs[runs.labels.isin(asked.labels) & runs.rest.isin(asked.rest)]
    parts = [section(runs, measure, title) for measure, title in TITLES.items()]
    asked.runs.with_name("tables.md").write_text("\n".join(parts))
    whole = complete(runs, "ap")
    headline = whole[whole.index.get_level_values("labels").isin(["anomalies-0.05", "anomalies-0.1", "anomalies-0.25"])]
    draw(ranks(headline), len(headline), asked.runs.with_name("ranks.png"))


TITLES = {"ap": "Average precision", "auroc": "Area under the ROC curve"}


def complete(runs: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One row a task, one column a method; methods not run on most tasks are left out, then unfinished tasks."""
    wide = runs.pivot(index=TASK, columns="method", values=measure)
    wide = wide.dropna(subset=[name for name in SUBJECTS if name in wide])
    return wide.dropna(axis=1, thresh=len(wide) // 2).dropna()


def ranks(whole: pd.DataFrame) -> pd.Series:
    """Mean rank of each method over the tasks, best first."""
    return whole.rank(axis=1, ascending=False).mean().sort_values()


def section(runs: pd.DataFrame, measure: str, title: str) -> str:
    """Everything about one measure."""
    lines = [f"## {title}", ""]
    for (rest, labels), part in runs.groupby(["rest", "labels"], sort=False):
        tasks = complete(part, measure)
        best = ranks(tasks)
        by_set = tasks.groupby("set").mean()[best.index].T
        seeds = tasks.groupby("set").size()
        table = pd.DataFrame({"mean rank": best.round(2), "mean": tasks.mean()[best.index].round(1)})
        table = table.join(by_set.round(1))
        lines += [
            f"### {described(labels)}, {rest}: {len(tasks)} tasks, {seeds.min()} to {seeds.max()} seeds a set",
            "",
        ]
        lines += [table.to_markdown(), ""]
        for subject in SUBJECTS:
            if subject in tasks:
                lines += [*tests(tasks, subject), ""]
    return "\n".join(lines)


def described(labels: str) -> str:
    of, share = labels.rsplit("-", 1)
    return f"labels for {float(share):.0%} of the training {of}".replace("training rows", "number of training rows")


def tests(tasks: pd.DataFrame, subject: str) -> list[str]:
    """Paired Wilcoxon tests of a method against each other one, Holm-corrected over the methods."""
    others = [name for name in tasks.columns if name != subject]
    by_set = tasks.groupby("set").mean()
    values = {}
    for name in others:
        difference = tasks[subject] - tasks[name]
        values[name] = stats.wilcoxon(difference).pvalue if difference.any() else 1.0
    lines = [f"| {subject} against | difference | sets won | p (Wilcoxon) | p (Holm) |", "|---|---|---|---|---|"]
    for name, corrected in holm(values).items():
        won = int((by_set[subject] > by_set[name]).sum())
        mean = (tasks[subject] - tasks[name]).mean()
        lines.append(f"| {name} | {mean:+.1f} | {won} of {len(by_set)} | {values[name]:.2g} | {corrected:.2g} |")
    return lines


def draw(found: pd.Series, tasks: int, file: Path) -> None:
    """Mean ranks; methods joined by a bar do not differ by Nemenyi's test at 0.05 (critical difference)."""
    mpl.use("agg")
    methods = len(found)
    critical = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    critical *= np.sqrt(methods * (methods + 1) / (6 * tasks))
    figure, axis = plt.subplots(figsize=(7.2, 1.0 + 0.3 * methods), layout="constrained")
    places = np.arange(methods)
    axis.scatter(found, places, color=["#c2410c" if n in SUBJECTS else "#0b6e99" for n in found.index], zorder=3)
    axis.set_yticks(places, found.index)
    axis.invert_yaxis()
    reached = -1
    for first in range(methods):
        last = int(np.flatnonzero(found <= found.iloc[first] + critical)[-1])
        if last > max(reached, first):
            axis.plot([found.iloc[first] - 0.12] * 2, [first, last], color="#555555", lw=3, solid_capstyle="round")
            reached = last
    axis.set_xlabel(
        f"mean rank by average precision, {tasks} tasks, best on the left; critical difference {critical:.2f}"
    )
    axis.grid(alpha=0.25, axis="x")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
