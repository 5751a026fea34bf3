"""What ImbSAM gains, over all studies: writes results/evidence.json, evidence.png and the table of docs/evidence.md.

    python benchmarks/evidence.py [--out FOLDER]

With FOLDER everything is written there, the page as evidence.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lines
import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evidence.md"
HEADER = (
    "| data | loss | pairs | rare classes: over the plain step | over SAM | balanced: over the plain step | over SAM "
    "| rows |"
)
LOSSES = {"CE": "cross-entropy", "LA": "logit adjustment", "LDAM-DRW": "LDAM-DRW"}
CONTROLS = ("SGD", "SAM")


@dataclass(frozen=True)
class Gain:
    """What ImbSAM has over another method, in points: means and half the 95 % t-intervals of paired differences.

    Args:
        data: What was learnt.
        loss: Under which loss, by both.
        pairs: How many differences, and of what.
        over: The other method.
        rare: Recall of the rare classes, in which case ``balanced`` is balanced accuracy; or average precision.
        rare_half: Half its interval.
        balanced: ``None`` for anomalies.
        balanced_half: Half its interval.
        rows: Rows that ImbSAM forwards, over those of a plain step; ``None`` where a study did not keep them.
        won: In how many pairs ImbSAM is ahead in ``rare``.
    """

    data: str
    loss: str
    pairs: str
    over: str
    rare: float
    rare_half: float
    balanced: float | None
    balanced_half: float | None
    rows: float | None
    won: int


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    gains = [*digits(), *images(), *tables(), *anomalies()]
    results = asked.out or HERE / "results"
    page = asked.out / "evidence.md" if asked.out else PAGE
    (results / "evidence.json").write_text(json.dumps([asdict(gain) for gain in gains], indent=1) + "\n")
    page.write_text(with_table(PAGE.read_text(encoding="utf-8"), gains), encoding="utf-8")
    draw(gains, results / "evidence.png")


def gain(
    data: str, loss: str, unit: str, over: str, rare: pd.Series, balanced: pd.Series | None, rows: float | None
) -> Gain:
    """Sum differences up."""
    mean, half = (None, None) if balanced is None else (round(balanced.mean(), 2), half_width(balanced))
    pairs = f"{len(rare)} {unit}"
    return Gain(
        data, loss, pairs, over, round(rare.mean(), 2), half_width(rare), mean, half, rows, int((rare > 0).sum())
    )


def half_width(gaps: pd.Series) -> float:
    """Of the 95 % t-interval of the mean."""
    return round(float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.sem()), 2)


def digits() -> Iterator[Gain]:
    """Digits of scikit-learn, by the command itself."""
    folder = HERE / "first_results" / "results" / "digits" / "runs"
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    runs = pd.DataFrame([{**r["test"], **{k: r[k] for k in ("label", "seed", "cost_ratio")}} for r in results])
    for loss, suffix in (("CE", ""), ("LA", ":loss=logit-adjustment")):
        part = runs[runs.label.isin([f"{name}{suffix}" for name in ("imbsam", "sgd", "sam")])].copy()
        part["method"] = part.label.str.removesuffix(suffix).map({"imbsam": "ImbSAM", "sgd": "SGD", "sam": "SAM"})
        part[["few", "balanced"]] *= 100
        yield from by_seed(part, "digits (50)", loss, "few", "balanced", "cost_ratio")


def images() -> Iterator[Gain]:
    """Main runs of the study of images."""
    runs = pd.json_normalize(runs_of("images"), max_level=1)
    runs = runs[(runs.stage == "main") & runs.method.isin(["ImbSAM", *CONTROLS])]
    names = {"fashion-mnist": "Fashion-MNIST-LT", "cifar10": "CIFAR-10-LT"}
    for (name, imbalance, loss), part in runs.groupby(["set", "imbalance", "loss"], sort=False):
        whole = part.groupby("seed").size().eq(1 + len(CONTROLS))
        part = part[part.seed.isin(whole[whole].index)]
        if part.seed.nunique() > 1:
            yield from by_seed(part, f"{names[name]} ({imbalance})", loss, "test.few", "test.balanced", "cost")


def by_seed(runs: pd.DataFrame, data: str, loss: str, rare: str, balanced: str, cost: str) -> Iterator[Gain]:
    """Differences of runs of the same seed."""
    wide = {score: runs.pivot(index="seed", columns="method", values=score) for score in (rare, balanced)}
    rows = round(float(runs[runs.method == "ImbSAM"][cost].mean()), 2)
    for other in CONTROLS:
        of_rare, of_all = (wide[score]["ImbSAM"] - wide[score][other] for score in (rare, balanced))
        yield gain(data, LOSSES[loss], "seeds", other, of_rare, of_all, rows)


def tables() -> Iterator[Gain]:
    """Naturally imbalanced tables: each set counts once."""
    runs = pd.DataFrame(runs_of("tables"))
    whole = runs.groupby("seed").size().eq(runs.groupby(["set", "method"]).ngroups)
    runs = runs[runs.seed.isin(whole[whole].index)]
    wide = {
        score: runs.pivot_table(index="set", columns="method", values=score) for score in ("rare_recall", "balanced")
    }
    for loss, suffix in (("CE", ""), ("LA", ", logit adjustment")):
        for other in CONTROLS:
            of_rare, of_all = (wide[s][f"ImbSAM{suffix}"] - wide[s][f"{other}{suffix}"] for s in wide)
            yield gain("tables", LOSSES[loss], "sets", other, of_rare, of_all, None)


def anomalies() -> Iterator[Gain]:
    """Few labelled anomalies: average precision, each set once."""
    runs = pd.DataFrame(runs_of("anomaly"))
    runs = runs[runs.rest == "contaminated"]
    for labels in ("anomalies-0.01", "anomalies-0.05", "anomalies-0.1", "anomalies-0.25"):
        part = runs[(runs.labels == labels) & runs.method.isin(["ImbSAM", "SAM", "Adam"])]
        whole = part.pivot(index=["set", "seed"], columns="method", values="ap").dropna()
        for other in ("Adam", "SAM"):
            gaps = (whole["ImbSAM"] - whole[other]).groupby("set").mean()
            share = f"{float(labels.rpartition('-')[2]):.0%}"
            yield gain(f"anomalies, {share} labelled", "deviation", "sets", other, gaps, None, None)


def runs_of(study: str) -> list[dict[str, object]]:
    """The runs of a study."""
    return lines.read(HERE / study / "results" / "runs.jsonl")


def with_table(page: str, gains: Sequence[Gain]) -> str:
    """The page with this table in the place of the one it has."""
    start = page.index(HEADER)
    return page[:start] + table(gains) + page[page.index("\n\n", start) + 1 :]


def table(gains: Sequence[Gain]) -> str:
    """A line for both controls; differences whose interval leaves out 0 are bold."""
    rows = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for plain, sam in zip(gains[::2], gains[1::2], strict=True):
        cells = [plain.data, plain.loss, plain.pairs, *(cell(each.rare, each.rare_half) for each in (plain, sam))]
        cells += [cell(each.balanced, each.balanced_half) for each in (plain, sam)]
        rows.append(f"| {' | '.join([*cells, '' if plain.rows is None else f'{plain.rows:.2f}'])} |")
    return "\n".join(rows) + "\n"


def cell(mean: float | None, half: float | None) -> str:
    """As +1.2 ± 0.8."""
    if mean is None or half is None:
        return ""
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"**{text}**" if abs(mean) > half else text


def draw(gains: Sequence[Gain], file: Path) -> None:
    """Rare recall, or average precision, over SGD or Adam, and over SAM."""
    mpl.use("agg")
    rows = list(dict.fromkeys((each.data, each.loss) for each in gains))[::-1]
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.42 * len(rows)), layout="constrained")
    for others, colour, shift, label in (
        (("SGD", "Adam"), "#d55e00", 0.14, "SGD or Adam"),
        (("SAM",), "#0072b2", -0.14, "SAM"),
    ):
        own = [each for each in gains if each.over in others]
        places = [rows.index((each.data, each.loss)) + shift for each in own]
        halves, means = [each.rare_half for each in own], [each.rare for each in own]
        axis.errorbar(means, places, xerr=halves, fmt="o", ms=4, capsize=2, color=colour, label=f"ImbSAM over {label}")
    axis.axvline(0, color="#1b1f24", lw=0.8, ls=":")
    axis.set_yticks(range(len(rows)), [f"{data} ({loss})" for data, loss in rows], fontsize=9)
    axis.set_xlabel("points of recall of the rare classes,\nof average precision for anomalies; 95 % intervals")
    axis.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
