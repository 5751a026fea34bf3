"""Tables and figures of the studies on tables, by ../PROTOCOL.md.

    python benchmarks/tables/collect.py [--study steps | peers] [--runs FILE]

Of results/runs.jsonl it writes results/tables.md and results/gain.png, of results/peers.jsonl results/peers.md and
results/peers.png; FILE takes the place of the runs, and what is written lies beside it. Only seeds count in which
every method has finished every set. Sets count once each: the tests are over the means of the sets. With eight of
them no p-value is below 0.0078, which no correction for a dozen methods lets pass; so beside them stands the test over
all tasks (set x seed), whose rows are partly the same.
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
from paired import half_width, holm, whole_seeds
from scipy import stats

HERE = Path(__file__).parent / "results"
MEASURES = {
    "balanced": "Balanced accuracy, %",
    "rare_recall": "Recall of the rare classes, %",
    "macro_f1": "Macro F1, %",
    "log_loss": "Log loss, nats",
    "ece": "Expected calibration error, %",
}
LOWER_IS_BETTER = {"log_loss", "ece"}


@dataclass(frozen=True)
class Study:
    """What is shown of a study.

    Args:
        runs: Name of its file.
        title: Of its tables.
        tables: Their file.
        figure: Its file.
        subjects: Methods that are compared with every other one.
        reference: The method that the figure shows all others over.
    """

    runs: str
    title: str
    tables: str
    figure: str
    subjects: tuple[str, ...]
    reference: str


STUDIES = {
    "steps": Study(
        "runs.jsonl",
        "Tables with rare classes: all numbers",
        "tables.md",
        "gain.png",
        ("ImbSAM", "ImbSAM, logit adjustment"),
        "SGD",
    ),
    "peers": Study(
        "peers.jsonl",
        "What to begin with on a table: all numbers",
        "peers.md",
        "peers.png",
        ("blend",),
        "boosting, balanced",
    ),
}


def main() -> None:
    """Write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", choices=STUDIES, default="steps")
    parser.add_argument("--runs", type=Path)
    asked = parser.parse_args()
    study = STUDIES[asked.study]
    file = asked.runs or HERE / study.runs
    runs = whole_seeds(frame(file), ["set", "method"])
    seeds, sets = runs.seed.nunique(), runs.set.nunique()
    parts = [f"# {study.title}", f"{seeds} seeds, {sets} sets. Cells: mean over the seeds.", described(runs)]
    parts += [section(runs, measure, title) for measure, title in MEASURES.items()]
    parts += [compared(runs, subject) for subject in study.subjects]
    file.with_name(study.tables).write_text("\n\n".join(parts) + "\n")
    draw(runs, study.reference, file.with_name(study.figure))


def described(runs: pd.DataFrame) -> str:
    """The sets."""
    first = runs.groupby("set").first()
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
    """Of each task (set and seed): one method minus the other."""
    table = runs.pivot(index=["set", "seed"], columns="method", values=measure)
    return table[subject] - table[other]


def of_sets(tasks: pd.Series) -> pd.Series:
    """Mean over the seeds."""
    return tasks.groupby("set").mean()


def wilcoxon(differences: pd.Series) -> float:
    """p-value of the signed-rank test; 1 where nothing differs."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def compared(runs: pd.DataFrame, subject: str) -> str:
    """A method against each other one, over the sets and over all tasks, p-values corrected by Holm."""
    others = [name for name in runs.method.unique() if name != subject]
    lines = [
        f"## {subject} against the others\n",
        "| against | balanced accuracy | 95 % interval | sets won | p (sets) | Holm | p (tasks) | Holm | rare recall |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    tasks = {name: differences(runs, subject, name, "balanced") for name in others}
    sets = {name: of_sets(each) for name, each in tasks.items()}
    p, by_task = ({name: wilcoxon(each) for name, each in level.items()} for level in (sets, tasks))
    corrected = holm(by_task)
    for name, by_set in holm(p).items():
        gap, width = sets[name], half_width(sets[name])
        rare = of_sets(differences(runs, subject, name, "rare_recall")).mean()
        lines.append(
            f"| {name} | {gap.mean():+.1f} | {gap.mean() - width:+.1f} to {gap.mean() + width:+.1f} | "
            f"{(gap > 0).sum()} of {len(gap)} | {p[name]:.2g} | {by_set:.2g} | {by_task[name]:.2g} | "
            f"{corrected[name]:.2g} | {rare:+.1f} |"
        )
    return "\n".join(lines)


def draw(runs: pd.DataFrame, reference: str, file: Path) -> None:
    """Balanced accuracy of each method over one: a point a set, a bar for the mean and its interval."""
    mpl.use("agg")
    names = [name for name in runs.method.unique() if name != reference]
    gaps = {name: of_sets(differences(runs, name, reference, "balanced")) for name in names}
    names.sort(key=lambda name: gaps[name].mean())
    figure, axis = plt.subplots(figsize=(7.2, 5), layout="constrained")
    for place, name in enumerate(names):
        ours = "SAM" in name or name.startswith(("SGD", "blend"))
        colour = "#d55e00" if "ImbSAM" in name or name == "blend" else "#0072b2" if ours else "#666666"
        axis.scatter(gaps[name], np.full(len(gaps[name]), place), s=14, color=colour, alpha=0.45, linewidths=0)
        axis.errorbar(gaps[name].mean(), place, xerr=half_width(gaps[name]), fmt="D", color=colour, capsize=3, ms=5)
    axis.axvline(0, color="#1b1f24", lw=0.8, ls=":")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(
        f"balanced accuracy over {reference} (points)\nsmall: each set; large: mean over the sets, 95 % interval"
    )
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
