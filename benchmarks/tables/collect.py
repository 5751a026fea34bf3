"""Tables and figure of results/runs.jsonl, by ../PROTOCOL.md: writes results/tables.md and results/gain.png.

    python benchmarks/tables/collect.py [--runs FILE]

Only seeds count in which every method has finished every set. Sets count once each: the tests are over the means of
the sets.
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
from paired import half_width, holm, whole_seeds
from scipy import stats

HERE = Path(__file__).parent / "results"
SUBJECT = "ImbSAM, logit adjustment"
PLAIN = "ImbSAM"
MEASURES = {
    "balanced": "Balanced accuracy, %",
    "rare_recall": "Recall of the rare classes, %",
    "macro_f1": "Macro F1, %",
    "log_loss": "Log loss, nats",
    "ece": "Expected calibration error, %",
}
LOWER_IS_BETTER = {"log_loss", "ece"}


def main() -> None:
    """Write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=HERE / "runs.jsonl")
    asked = parser.parse_args()
    runs = whole_seeds(frame(asked.runs), ["set", "method"])
    seeds, sets = runs.seed.nunique(), runs.set.nunique()
    parts = [f"{seeds} seeds, {sets} sets. Cells: mean over the seeds.", described(runs)]
    parts += [section(runs, measure, title) for measure, title in MEASURES.items()]
    parts += [compared(runs, subject) for subject in (PLAIN, SUBJECT)]
    asked.runs.with_name("tables.md").write_text(
        "\n\n".join(["# Tables with rare classes: all numbers", *parts]) + "\n"
    )
    draw(runs, asked.runs.with_name("gain.png"))


def described(runs: pd.DataFrame) -> str:
    """The sets."""
    first = runs[runs.method == PLAIN].groupby("set").first()
    table = pd.DataFrame({"training rows": first.rows, "classes": first.classes, "rare": first.rare.map(len)})
    return table.to_markdown()


def wide(runs: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One row a set, one column a method: the mean over the seeds."""
    return runs.pivot_table(index="set", columns="method", values=measure)


def section(runs: pd.DataFrame, measure: str, title: str) -> str:
    """Every method on every set, the best mean rank first."""
    means = wide(runs, measure)
    ranks = means.rank(axis=1, ascending=measure in LOWER_IS_BETTER).mean().sort_values()
    digits = 2 if measure == "log_loss" else 1
    table = pd.DataFrame({"mean rank": ranks.round(1), "mean": means.mean()[ranks.index].round(digits)})
    if measure == "balanced":
        table["seconds"] = runs.groupby("method").seconds.mean()[ranks.index].round(1)
    return f"## {title}\n\n{table.join(means.T.round(digits)).to_markdown()}"


def differences(runs: pd.DataFrame, subject: str, other: str, measure: str) -> pd.Series:
    """Of each set: the mean over the seeds of one method minus the other at the same seed."""
    table = runs.pivot(index=["set", "seed"], columns="method", values=measure)
    return (table[subject] - table[other]).groupby("set").mean()


def compared(runs: pd.DataFrame, subject: str) -> str:
    """A method against each other one, over the sets, p-values corrected by Holm."""
    others = [name for name in runs.method.unique() if name != subject]
    lines = [
        f"## {subject} against the others\n",
        "| against | balanced accuracy | 95 % interval | sets won | p (Wilcoxon) | p (Holm) | rare recall |",
        "|---|---|---|---|---|---|---|",
    ]
    gaps = {name: differences(runs, subject, name, "balanced") for name in others}
    p = {name: float(stats.wilcoxon(gap).pvalue) if gap.any() else 1.0 for name, gap in gaps.items()}
    for name, corrected in holm(p).items():
        gap, width = gaps[name], half_width(gaps[name])
        rare = differences(runs, subject, name, "rare_recall").mean()
        lines.append(
            f"| {name} | {gap.mean():+.1f} | {gap.mean() - width:+.1f} to {gap.mean() + width:+.1f} | "
            f"{(gap > 0).sum()} of {len(gap)} | {p[name]:.2g} | {corrected:.2g} | {rare:+.1f} |"
        )
    return "\n".join(lines)


def draw(runs: pd.DataFrame, file: Path) -> None:
    """Balanced accuracy of each method over SGD: a point a set, a bar for the mean and its interval."""
    mpl.use("agg")
    names = [name for name in runs.method.unique() if name != "SGD"]
    gaps = {name: differences(runs, name, "SGD", "balanced") for name in names}
    names.sort(key=lambda name: gaps[name].mean())
    figure, axis = plt.subplots(figsize=(7.2, 5), layout="constrained")
    for place, name in enumerate(names):
        ours = "SAM" in name or name.startswith("SGD")
        colour = "#d55e00" if "ImbSAM" in name else "#0072b2" if ours else "#666666"
        axis.scatter(gaps[name], np.full(len(gaps[name]), place), s=14, color=colour, alpha=0.45, linewidths=0)
        axis.errorbar(gaps[name].mean(), place, xerr=half_width(gaps[name]), fmt="D", color=colour, capsize=3, ms=5)
    axis.axvline(0, color="#1b1f24", lw=0.8, ls=":")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("balanced accuracy over SGD (points)\nsmall: each set; large: mean over the sets, 95 % interval")
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
