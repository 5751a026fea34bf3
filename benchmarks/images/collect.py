"""Tables and figures of results/runs.jsonl, by ../PROTOCOL.md: writes results/tables.md and figures.

    python benchmarks/images/collect.py [--runs FILE]

Of the main runs only seeds count in which every method of a data set and loss has finished, of the ablations only
changes that all seeds have been run with.
"""

import argparse
from pathlib import Path

import pandas as pd
from figures import draw_gains, draw_imbalance, draw_mechanism
from frames import GROUP, MAIN_IMBALANCE, PLAIN, centred, complete, whole_changes
from lines import frame
from paired import half_width, holm, interval, wide
from scipy import stats

HERE = Path(__file__).parent / "results"
SCORES = {"balanced": "balanced", "many": "frequent", "few": "rare", "macro_f1": "macro F1", "ece": "ECE"}
SUBJECTS = ("ImbSAM", "SAM")


def main() -> None:
    """Write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=HERE / "runs.jsonl")
    asked = parser.parse_args()
    runs = frame(asked.runs)
    made = complete(runs[runs.stage == "main"])
    ablations = whole_changes(runs[runs.stage == "ablation"])
    parts = ["# Images with rare classes: all numbers", tuned(runs[runs.stage == "tune"])]
    parts += [results(part, *key) for key, part in made.groupby(GROUP, sort=False)]
    parts += [ablated(part, *key) for key, part in ablations.groupby(GROUP, sort=False)]
    new = complete(runs[runs.stage == "beyond"])
    parts.append(beyond(made, new))
    whole = made[made.imbalance == MAIN_IMBALANCE]
    every = pd.concat([whole, new[new.imbalance == MAIN_IMBALANCE]])
    parts.append(mechanism(every))
    draw_gains(every, asked.runs.with_name("gain.png"))
    draw_mechanism(every, asked.runs.with_name("mechanism.png"))
    if len(made) > len(whole):
        draw_imbalance(made, asked.runs.with_name("imbalance.png"))
    asked.runs.with_name("tables.md").write_text("\n\n".join(part for part in parts if part) + "\n")


def tuned(runs: pd.DataFrame) -> str:
    """What validation chose at the tuning seed."""
    if runs.empty:
        return ""
    best = runs.loc[runs.groupby(["set", "loss", "method"], sort=False)["validation.balanced"].idxmax()]
    skipped = {"method", "loss", "reweight_from", "ascent", "drw", "gamma", "beyond"}
    own = [name for name in runs if name.startswith("values.") and name.removeprefix("values.") not in skipped]
    chosen = [
        ", ".join(f"{name.removeprefix('values.')} {value:g}" for name, value in run[own].dropna().items())
        for _, run in best.iterrows()
    ]
    table = pd.DataFrame({"chosen": chosen, "validation": best["validation.balanced"].round(1)})
    table.index = pd.MultiIndex.from_frame(best[["set", "loss", "method"]])
    return f"## Configurations that validation chose, of three each\n\n{table.reset_index().to_markdown(index=False)}"


def results(runs: pd.DataFrame, name: str, imbalance: int, loss: str) -> str:
    """Every method of one data set and loss, and the paired differences."""
    methods = list(dict.fromkeys(runs.method))
    table = pd.DataFrame(
        {title: {m: interval(wide(runs, f"test.{s}")[m]) for m in methods} for s, title in SCORES.items()}
    )
    table["log loss"] = [f"{wide(runs, 'test.log_loss')[m].mean():.2f}" for m in methods]
    table["cost"] = [f"{wide(runs, 'cost')[m].mean():.2f}" for m in methods]
    parts = [f"## {name}, imbalance {imbalance}, {loss}", f"{runs.seed.nunique()} seeds.", table.to_markdown()]
    parts += [differences(runs, subject) for subject in SUBJECTS if runs.seed.nunique() > 1]
    return "\n\n".join(parts)


def differences(runs: pd.DataFrame, subject: str) -> str:
    """A method against each other, paired by seed; t-tests, corrected by Holm."""
    balanced, rare = wide(runs, "test.balanced"), wide(runs, "test.few")
    others = [name for name in balanced if name != subject]
    gaps = {name: balanced[subject] - balanced[name] for name in others}
    p = {name: float(stats.ttest_1samp(gap, 0).pvalue) if gap.std() else 1.0 for name, gap in gaps.items()}
    rows = []
    for name, corrected in holm(p).items():
        gap, of_rare = gaps[name], rare[subject] - rare[name]
        low, high = gap.mean() - half_width(gap), gap.mean() + half_width(gap)
        rows.append(
            {
                f"{subject} against": name,
                "balanced": f"{gap.mean():+.1f} ({low:+.1f} to {high:+.1f})",
                "rare": interval(of_rare, signed=True),
                "seeds won": f"{(gap > 0).sum()} of {len(gap)}",
                "p": f"{p[name]:.2g}",
                "p (Holm)": f"{corrected:.2g}",
            }
        )
    return pd.DataFrame(rows).to_markdown(index=False)


def ablated(runs: pd.DataFrame, name: str, imbalance: int, loss: str) -> str:
    """Each change, and what ImbSAM changed is over SGD changed in the same way."""
    balanced, rare = wide(runs, "test.balanced"), wide(runs, "test.few")
    rows = []
    for method in dict.fromkeys(runs.method):
        twin = f"SGD, {method}"
        against = twin if twin in balanced else PLAIN
        gap, of_rare = balanced[method] - balanced[against], rare[method] - rare[against]
        rows.append(
            {
                "changed": method,
                "balanced": interval(balanced[method]),
                "rare": interval(rare[method]),
                "over": "" if method == against else against,
                "balanced over it": "" if method == against else interval(gap, signed=True),
                "rare over it": "" if method == against else interval(of_rare, signed=True),
                "cost": f"{wide(runs, 'cost')[method].mean():.2f}",
            }
        )
    title = f"## Ablations: {name}, imbalance {imbalance}, {loss}"
    return f"{title}\n\n{runs.seed.nunique()} seeds, rho 0.1.\n\n{pd.DataFrame(rows).to_markdown(index=False)}"


def beyond(published: pd.DataFrame, new: pd.DataFrame) -> str:
    """What goes beyond the papers, beside ImbSAM and the published method that is best on the runs' validation data."""
    parts = []
    for key, own in new.groupby(GROUP, sort=False):
        beside = published[(published[GROUP] == list(key)).all(axis=1) & published.seed.isin(own.seed)]
        best = beside.groupby("method")["validation.balanced"].mean().idxmax()
        held = dict.fromkeys([PLAIN, "ImbSAM", best])
        both = pd.concat([beside[beside.method.isin(held)], own])
        scores = {s: wide(both, f"{s}.balanced") for s in ("validation", "test")}
        rare = wide(both, "test.few")
        rows = [
            {
                "method": method,
                "validation": interval(scores["validation"][method]),
                "balanced": interval(scores["test"][method]),
                "rare": interval(rare[method]),
                **{f"over {h}": interval(scores["test"][method] - scores["test"][h]) for h in held if h != PLAIN},
                "cost": f"{wide(both, 'cost')[method].mean():.2f}",
            }
            for method in [*held, *dict.fromkeys(own.method)]
        ]
        title = f"## Beyond the papers: {key[0]}, imbalance {key[1]}, {key[2]}"
        parts.append(f"{title}\n\n{own.seed.nunique()} seeds.\n\n{pd.DataFrame(rows).to_markdown(index=False)}")
    return "\n\n".join(parts)


def mechanism(runs: pd.DataFrame) -> str:
    """Sharpness of head and tail, and the gap between training and test data, of the same runs."""
    columns = {
        "sharpness.tail": "sharpness of the tail",
        "sharpness.head": "of the head",
        "train.few": "rare, training data",
        "test.few": "rare, test data",
    }
    table = runs.groupby([*GROUP, "method"], sort=False)[list(columns)].mean().rename(columns=columns)
    table["gap"] = table["rare, training data"] - table["rare, test data"]
    table = table.round({column: 3 if "head" in column or "sharpness" in column else 1 for column in table})
    lines = [f"## Mechanism\n\n{table.reset_index().to_markdown(index=False)}"]
    for key, part in runs.groupby(GROUP, sort=False):
        x, y = (centred(part, column).to_numpy().ravel() for column in ("sharpness.tail", "test.few"))
        found = stats.spearmanr(x, y)
        lines.append(
            f"{key[0]}, imbalance {key[1]}, {key[2]}: over {len(x)} runs, rank correlation of the tail's sharpness "
            f"with rare recall, both less the mean of the seed: {found.statistic:+.2f} (p = {found.pvalue:.2g})."
        )
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()
