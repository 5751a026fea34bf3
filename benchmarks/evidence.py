"""What ImbSAM gains, over all studies: writes results/evidence.json, evidence.png and the tables of docs/evidence.md.

    python benchmarks/evidence.py [--out FOLDER]

With FOLDER everything is written there, the page as evidence.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import comparisons
import lines
import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from paired import half_width, whole_seeds, wide

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evidence.md"
OURS, BY_RISE, PLAIN = "ImbSAM", "ImbSAM, rho by rise", "SGD"
LATE, LATE_BY_RISE = "ImbSAM+DRW", "ImbSAM+DRW, rho by rise"
LABELS = {
    PLAIN: "sgd",
    "SAM": "sam",
    OURS: "imbsam",
    BY_RISE: "imbsam:ascent=rise,rho=0.5",
}
"""Of the command."""
LOSSES = {"CE": "cross-entropy", "LA": "logit adjustment", "LDAM-DRW": "LDAM-DRW"}
CONTROLS = {
    OURS: (PLAIN, "SAM"),
    BY_RISE: (OURS, PLAIN, "SAM"),
    LATE: ("SGD+DRW", "SAM+DRW"),
    LATE_BY_RISE: (LATE, "SGD+DRW", "SAM+DRW"),
}
"""What a method is held to; each has a table on the page."""


@dataclass(frozen=True)
class Gain:
    """What a method has over another one, in points: means and half the 95 % t-intervals of paired differences.

    Args:
        method: ImbSAM, by length or by rise, with or without late re-weighting.
        data: What was learnt.
        loss: Under which loss, by both.
        pairs: How many differences, and of what.
        over: The other one.
        rare: Recall of the rare classes, in which case ``balanced`` is balanced accuracy; or average precision.
        rare_half: Half its interval.
        balanced: ``None`` for anomalies.
        balanced_half: Half its interval.
        rows: Rows that it forwards, over those of a plain step; ``None`` where a study did not keep them.
        won: In how many pairs it is ahead in ``rare``.
    """

    method: str
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
    gains = [*digits(), *images(), *tables(), *anomalies(), *digits(BY_RISE), *images(BY_RISE), *tables(BY_RISE)]
    gains += [*images(LATE), *images(LATE_BY_RISE)]
    results = asked.out or HERE / "results"
    page = asked.out / "evidence.md" if asked.out else PAGE
    (results / "evidence.json").write_text(json.dumps([asdict(gain) for gain in gains], indent=1) + "\n")
    page.write_text(with_tables(PAGE.read_text(encoding="utf-8"), gains), encoding="utf-8")
    draw([each for each in gains if each.method == OURS], results / "evidence.png")


def gain(
    method: str,
    data: str,
    loss: str,
    unit: str,
    over: str,
    rare: pd.Series,
    balanced: pd.Series | None,
    rows: float | None,
) -> Gain:
    """Sum differences up."""
    mean, half = (None, None) if balanced is None else rounded(balanced)
    of_rare, rare_half = rounded(rare)
    pairs = f"{len(rare)} {unit}"
    won = int((rare > 0).sum())
    return Gain(method, data, loss, pairs, over, of_rare, rare_half, mean, half, rows, won)


def rounded(differences: pd.Series) -> tuple[float, float]:
    """Mean, and half its interval."""
    return round(differences.mean(), 2), round(half_width(differences), 2)


def digits(method: str = OURS) -> Iterator[Gain]:
    """Digits of scikit-learn, by the command itself."""
    made = comparisons.read(HERE / "first_results" / "results" / "runs.jsonl")
    runs = pd.concat(own for name, own in made.items() if name.startswith("digits"))
    # Runs that are in both comparisons are the same to the bit.
    runs = runs.drop_duplicates(["method", "seed"])
    for loss, more in (("CE", ""), ("LA", "loss=logit-adjustment")):
        names = {label(LABELS[name], more): name for name in (method, *CONTROLS[method])}
        part = runs[runs.method.isin(names)]
        part = part.assign(method=part.method.map(names))
        yield from by_seed(part, method, "digits (50)", loss, "test.few", "test.balanced", "cost_ratio")


def label(name: str, more: str) -> str:
    """As the command writes it, with an option more."""
    return f"{name}{',' if ':' in name else ':'}{more}" if more else name


def images(method: str = OURS) -> Iterator[Gain]:
    """Main runs of the study of images."""
    runs = runs_of("images")
    wanted = [method, *CONTROLS[method]]
    runs = runs[runs.stage.isin(["main", "beyond"]) & runs.method.isin(wanted)]
    names = {"fashion-mnist": "Fashion-MNIST-LT", "cifar10": "CIFAR-10-LT"}
    for (name, loss, imbalance), part in runs.groupby(["set", "loss", "imbalance"]):
        part = whole_seeds(part)
        if part.method.nunique() == len(wanted) and part.seed.nunique() > 1:
            data = f"{names[name]} ({imbalance})"
            yield from by_seed(part, method, data, loss, "test.few", "test.balanced", "cost")


def by_seed(
    runs: pd.DataFrame, method: str, data: str, loss: str, rare: str, balanced: str, cost: str
) -> Iterator[Gain]:
    """Differences of runs of the same seed."""
    scores = {score: wide(runs, score) for score in (rare, balanced)}
    rows = round(float(runs[runs.method == method][cost].mean()), 2)
    for other in CONTROLS[method]:
        of_rare, of_all = (own[method] - own[other] for own in scores.values())
        yield gain(method, data, LOSSES[loss], "seeds", other, of_rare, of_all, rows)


def tables(method: str = OURS) -> Iterator[Gain]:
    """Naturally imbalanced tables: each set counts once."""
    runs = whole_seeds(runs_of("tables"), ["set", "method"])
    scores = [runs.pivot_table(index="set", columns="method", values=name) for name in ("rare_recall", "balanced")]
    for loss, suffix in (("CE", ""), ("LA", ", logit adjustment")):
        for other in CONTROLS[method]:
            of_rare, of_all = (own[f"{method}{suffix}"] - own[f"{other}{suffix}"] for own in scores)
            yield gain(method, "tables", LOSSES[loss], "sets", other, of_rare, of_all, None)


def anomalies() -> Iterator[Gain]:
    """Few labelled anomalies: average precision, each set once."""
    runs = runs_of("anomaly")
    runs = runs[runs.rest == "contaminated"]
    for labels in ("anomalies-0.01", "anomalies-0.05", "anomalies-0.1", "anomalies-0.25"):
        part = runs[(runs.labels == labels) & runs.method.isin(["ImbSAM", "SAM", "Adam"])]
        whole = part.pivot(index=["set", "seed"], columns="method", values="ap").dropna()
        for other in ("Adam", "SAM"):
            gaps = (whole["ImbSAM"] - whole[other]).groupby("set").mean()
            share = f"{float(labels.rpartition('-')[2]):.0%}"
            yield gain(OURS, f"anomalies, {share} labelled", "deviation", "sets", other, gaps, None, None)


@cache
def runs_of(study: str) -> pd.DataFrame:
    """The runs of a study."""
    return lines.frame(HERE / study / "results" / "runs.jsonl")


def with_tables(page: str, gains: Sequence[Gain]) -> str:
    """The page with these tables in the place of those it has."""
    for method in CONTROLS:
        top = header(method)
        start = page.index(top)
        own = [each for each in gains if each.method == method]
        page = page[:start] + table(top, own) + page[page.index("\n\n", start) + 1 :]
    return page


def header(method: str) -> str:
    """The first line of a method's table."""
    # The plain step of anomalies is Adam's.
    plain = "the plain step" if method == OURS else PLAIN
    over = " | ".join(f"over {plain if other == PLAIN else other}" for other in CONTROLS[method])
    return f"| data | loss | pairs | rare classes: {over} | balanced: {over} | rows |"


def table(top: str, gains: Sequence[Gain]) -> str:
    """A line for each data set and loss; differences whose interval leaves out 0 are bold."""
    rows = [top, "|---" * top.count(" | ") + "|---|"]
    for (data, loss), own in groupby(gains, lambda each: (each.data, each.loss)):
        over = list(own)
        cells = [data, loss, over[0].pairs, *(cell(each.rare, each.rare_half) for each in over)]
        cells += [cell(each.balanced, each.balanced_half) for each in over]
        rows.append(f"| {' | '.join([*cells, '' if over[0].rows is None else f'{over[0].rows:.2f}'])} |")
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
