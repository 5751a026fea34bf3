"""The lines of runs as frames, and what is summed up of them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import lines
import pandas as pd
from paired import half_width

GROUP = ["set", "imbalance", "loss"]
PLAIN = "SGD"
MAIN_IMBALANCE = 100
"""At which all methods are compared."""


def read(file: Path) -> pd.DataFrame:
    """One row a run; the scores of a part as ``test.few``."""
    return pd.json_normalize(lines.read(file), max_level=1)


def whole_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """The seeds in which no method of a data set and loss is missing."""
    kept = []
    for _, part in runs.groupby(GROUP, sort=False):
        finished = part.groupby("seed").size()
        kept.append(part[part.seed.isin(finished[finished == part.method.nunique()].index)])
    return pd.concat(kept) if kept else runs


def whole_changes(runs: pd.DataFrame) -> pd.DataFrame:
    """The changes that every seed of a data set and loss has been run with."""
    seeds = runs.groupby(GROUP).seed.transform("nunique")
    return runs[runs.groupby([*GROUP, "method"]).seed.transform("nunique") == seeds]


def wide(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a seed, one column a method."""
    return runs.pivot(index="seed", columns="method", values=column)


def interval(values: pd.Series) -> str:
    """Mean and half the interval."""
    return f"{values.mean():.1f} ± {half_width(values):.1f}"


def centred(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Like ``wide``, less the mean of each seed over the methods: what a seed makes of all methods says nothing."""
    table = wide(runs, column)
    return table.sub(table.mean(axis=1), axis=0)
