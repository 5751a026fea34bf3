"""What is taken out of the runs, and summed up of them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import pandas as pd
from paired import whole_seeds, wide

GROUP = ["set", "imbalance", "loss"]
PLAIN = "SGD"
MAIN_IMBALANCE = 100
"""At which all methods are compared."""


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """The seeds in which no method of a data set and loss is missing."""
    kept = [whole_seeds(part) for _, part in runs.groupby(GROUP, sort=False)]
    return pd.concat(kept) if kept else runs


def whole_changes(runs: pd.DataFrame) -> pd.DataFrame:
    """The changes that every seed of a data set and loss has been run with."""
    seeds = runs.groupby(GROUP).seed.transform("nunique")
    return runs[runs.groupby([*GROUP, "method"]).seed.transform("nunique") == seeds]


def centred(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Like ``wide``, less the mean of each seed over the methods: what a seed makes of all methods says nothing."""
    table = wide(runs, column)
    return table.sub(table.mean(axis=1), axis=0)
