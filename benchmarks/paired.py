"""Statistics of paired differences, as the protocol asks for them."""

from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats


def whole_seeds(runs: pd.DataFrame, parts: Sequence[str] = ("method",)) -> pd.DataFrame:
    """The runs of the seeds in which nothing is missing that another seed has, by these parts of a run."""
    wanted = runs.groupby(list(parts)).ngroups
    return runs[runs.groupby("seed").seed.transform("size") == wanted]


def wide(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row a seed, one column a method: a difference of columns is paired."""
    return runs.pivot(index="seed", columns="method", values=score)


def half_width(differences: pd.Series) -> float:
    """Half the 95 % t-interval of the mean; NaN of fewer than two."""
    if len(differences) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(differences) - 1) * differences.sem())


def interval(values: pd.Series, *, signed: bool = False) -> str:
    """Mean and half the interval, like 1.2 ± 0.8 or +1.2 ± 0.8; of one value the mean alone, of none a dash."""
    if not len(values):
        return "-"
    mean = f"{values.mean():{'+' if signed else ''}.1f}"
    return mean if len(values) < 2 else f"{mean} ± {half_width(values):.1f}"


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for being several, the smallest first (Holm, 1979)."""
    corrected, worst = {}, 0.0
    for place, name in enumerate(sorted(p, key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = worst
    return corrected
