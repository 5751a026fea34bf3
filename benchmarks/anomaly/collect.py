"""Tables of the studies of detectors, and figures of mean ranks.

    python benchmarks/anomaly/collect.py [--study network | blend] [--labels ...] [--rest ...] [--in FOLDER]

Of runs.jsonl in FOLDER, by default results, it writes tables.md and ranks.png there: one network under three
optimizers and its peers. Of runs.jsonl and blend.jsonl it writes blend.md and blend.png: the default detector, its
controls and all peers. Only tasks that every method has finished count. Seeds of one set share its rows, so beside
the test over all tasks (set x seed) stands how many of the sets agree.
"""

import argparse
import sys
from dataclasses import dataclass
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
TASK = ["labels", "rest", "set", "seed"]


@dataclass(frozen=True)
class Study:
    """What is shown of a study.

    Args:
        runs: Names of its files.
        tables: File of its tables.
        figure: Its file.
        subject: The method that is compared with every other one.
    """

    runs: tuple[str, ...]
    tables: str
    figure: str
    subject: str


STUDIES = {
    "network": Study(("runs.jsonl",), "tables.md", "ranks.png", "ImbSAM"),
    "blend": Study(("runs.jsonl", "blend.jsonl"), "blend.md", "blend.png", "blend"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", nargs="+", default=LABELS)
    parser.add_argument("--rest", nargs="+", default=REST)
    parser.add_argument("--study", choices=STUDIES, default="network")
    parser.add_argument("--in", type=Path, default=HERE, dest="folder")
    asked = parser.parse_args()
    study = STUDIES[asked.study]
    runs = pd.concat([frame(asked.folder / name) for name in study.runs])
    runs = runs[runs.labels.isin(asked.labels) & runs.rest.isin(asked.rest)]
    parts = [overview(runs, study.subject)]
    parts += [section(runs, measure, title, study.subject) for measure, title in TITLES.items()]
    (asked.folder / study.tables).write_text("\n".join(parts))
    whole = complete(runs, "ap", study.subject)
    headline = whole[whole.index.get_level_values("labels").isin(["anomalies-0.05", "anomalies-0.1", "anomalies-0.25"])]
    draw(ranks(headline), len(headline), study.subject, asked.folder / study.figure)


TITLES = {"ap": "Average precision", "auroc": "Area under the ROC curve"}


def complete(runs: pd.DataFrame, measure: str, subject: str) -> pd.DataFrame:
    """One row a task of the subject, one column a method.

    Methods not run on most of these tasks are left out, then tasks that another method has not finished.
    """
    wide = runs.pivot(index=TASK, columns="method", values=measure)
    if subject not in wide:
        return wide.iloc[:0]
    wide = wide.dropna(subset=[subject])
    return wide.dropna(axis=1, thresh=len(wide) // 2).dropna()


def ranks(whole: pd.DataFrame) -> pd.Series:
    """Mean rank of each method over the tasks, best first."""
    return whole.rank(axis=1, ascending=False).mean().sort_values()


def overview(runs: pd.DataFrame, subject: str) -> str:
    """Mean ranks by average precision, of methods that are in every setting; and in how many the subject is first."""
    parts = {
        f"{described(labels)}, {rest}": complete(part, "ap", subject)
        for (rest, labels), part in runs.groupby(["rest", "labels"], sort=False)
    }
    parts = {name: tasks for name, tasks in parts.items() if len(tasks)}
    every = pd.DataFrame({name: ranks(tasks) for name, tasks in parts.items()}).dropna()
    every.insert(0, "all", every.mean(axis=1))
    every = every.sort_values("all").round(1)
    # A control is the subject with a part exchanged: it would only take ranks from it.
    controls = [name for name in every.index if name.startswith(subject) and name != subject]
    among = [ranks(tasks.drop(columns=controls)).index[0] for tasks in parts.values()]
    said = f"Without its controls {subject} has the best mean rank in {among.count(subject)} of {len(parts)} settings."
    return "\n".join(["## Mean ranks by average precision", "", every.to_markdown(), "", said, ""])


def section(runs: pd.DataFrame, measure: str, title: str, subject: str) -> str:
    """Everything about one measure."""
    lines = [f"## {title}", ""]
    for (rest, labels), part in runs.groupby(["rest", "labels"], sort=False):
        tasks = complete(part, measure, subject)
        if tasks.empty:
            continue
        best = ranks(tasks)
        by_set = tasks.groupby("set").mean()[best.index].T
        seeds = tasks.groupby("set").size()
        table = pd.DataFrame({"mean rank": best.round(2), "mean": tasks.mean()[best.index].round(1)})
        table = table.join(by_set.round(1))
        lines += [
            f"### {described(labels)}, {rest}: {len(tasks)} tasks, {seeds.min()} to {seeds.max()} seeds a set",
            "",
        ]
        lines += [table.to_markdown(), "", *tests(tasks, subject), ""]
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


def draw(found: pd.Series, tasks: int, subject: str, file: Path) -> None:
    """Mean ranks; methods joined by a bar do not differ by Nemenyi's test at 0.05 (critical difference)."""
    mpl.use("agg")
    methods = len(found)
    critical = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    critical *= np.sqrt(methods * (methods + 1) / (6 * tasks))
    figure, axis = plt.subplots(figsize=(7.2, 1.0 + 0.3 * methods), layout="constrained")
    places = np.arange(methods)
    axis.scatter(found, places, color=["#c2410c" if n == subject else "#0b6e99" for n in found.index], zorder=3)
    axis.set_yticks(places, found.index)
    axis.invert_yaxis()
    reached = -1
    for first in range(methods):
        last = int(np.flatnonzero(found <= found.iloc[first] + critical)[-1])
        if last > max(reached, first):
            axis.plot([found.iloc[first] - 0.12] * 2, [first, last], color="#555555", lw=3, solid_capstyle="round")
            reached = last
    axis.set_xlabel(
        f"mean rank by average precision, best on the left\n{tasks} tasks; critical difference {critical:.2f}"
    )
    axis.grid(alpha=0.25, axis="x")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
