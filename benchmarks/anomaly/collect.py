"""Tables of results/runs.jsonl: means, mean ranks, paired Wilcoxon tests; and the figure of mean ranks.

Usage: python collect.py [--labels anomalies-0.05] [--rest contaminated]
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

HERE = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", nargs="+", default=["anomalies-0.05", "anomalies-0.1", "anomalies-0.25"])
    parser.add_argument("--rest", nargs="+", default=["contaminated", "clean"])
    asked = parser.parse_args()
    runs = pd.DataFrame(map(json.loads, (HERE / "runs.jsonl").read_text().splitlines()))
    runs = runs[runs.labels.isin(asked.labels) & runs.rest.isin(asked.rest)]
    task = ["set", "labels", "rest", "seed"]
    wide = runs.pivot(index=task, columns="method", values="ap")
    whole = wide.dropna()
    print(f"{len(whole)} tasks of {len(wide)} have every method. Average precision in percent, mean over seeds:\n")
    print(whole.groupby(["labels", "rest", "set"]).mean().round(1).to_markdown())
    ranks = whole.rank(axis=1, ascending=False).mean().sort_values()
    # Seeds of a set are not independent: a rank a set beside the rank over all tasks.
    by_set = whole.groupby("set").mean()
    rank_of_sets = by_set.rank(axis=1, ascending=False).mean()
    summary = pd.DataFrame({"mean rank over tasks": ranks, "mean rank over sets": rank_of_sets[ranks.index]})
    summary["AP"] = whole.mean()[ranks.index]
    print("\n" + summary.round(2).to_markdown())
    print("\nPaired Wilcoxon tests of ImbSAM against the same detector (tasks; sets):\n")
    for name in sorted({m.split(",")[0] for m in whole.columns if "ImbSAM" in m}):
        for other in ("Adam", "SAM"):
            a, b = f"{name}, ImbSAM", f"{name}, {other}"
            if b in whole:
                difference = whole[a] - whole[b]
                p = stats.wilcoxon(whole[a], whole[b]).pvalue if difference.any() else 1.0
                sets = by_set[a] - by_set[b]
                p_sets = stats.wilcoxon(sets).pvalue if sets.any() else 1.0
                print(f"- {a} - {other}: {difference.mean():+.2f} points, p = {p:.3g}; over sets p = {p_sets:.3g}")
    draw(ranks, len(whole))


def draw(ranks: pd.Series, tasks: int) -> None:
    """Mean ranks with the critical difference of Nemenyi's test at 0.05."""
    mpl.use("agg")
    methods = len(ranks)
    critical = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    critical *= np.sqrt(methods * (methods + 1) / (6 * tasks))
    figure, axis = plt.subplots(figsize=(6.4, 0.5 + 0.36 * methods), layout="constrained")
    places = np.arange(methods)
    axis.errorbar(ranks, places, xerr=critical / 2, fmt="o", color="#0b6e99", capsize=3)
    axis.set_yticks(places, ranks.index)
    axis.invert_yaxis()
    axis.set_xlabel(f"mean rank by average precision, {tasks} tasks; bars that do not overlap differ (Nemenyi, 0.05)")
    axis.grid(alpha=0.25, axis="x")
    figure.savefig(HERE / "ranks.png", dpi=150)


if __name__ == "__main__":
    main()
