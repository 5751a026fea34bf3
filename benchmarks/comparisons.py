"""Runs of `imbsam compare` as lines of a study: what made each, its scores and its cost, without weights and epochs.

    python benchmarks/comparisons.py RUNS_JSONL COMPARISON_FOLDER ...

The name of a folder is that of the comparison; its runs are put in the place of those that the study has by this name.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import lines
import pandas as pd

MADE_BY = ("source", "config", "versions", "device", "finished")
PARTS = ("validation", "test")
COST = ("cost_ratio", "rows_forward", "train_seconds")
MEASURES = ("overall", "balanced", "many", "medium", "few", "macro_f1")


def main() -> None:
    """Collect the runs of each folder."""
    results, *folders = map(Path, sys.argv[1:])
    for folder in folders:
        lines.replace(results, collected(folder), key="comparison")


def collected(folder: Path) -> Iterator[dict[str, object]]:
    """The finished runs, the seeds outermost and the methods in the order of the comparison."""
    comparison = json.loads((folder / "comparison.json").read_text())
    for file in (folder / run / "result.json" for run in comparison["runs"]):
        if file.exists():
            result = json.loads(file.read_text())
            yield {
                **{"comparison": folder.name, "method": result["label"], "seed": result["seed"]},
                "command": comparison["command"],
                **{name: result[name] for name in (*MADE_BY, "counts", "epochs", "best_epoch", *COST)},
                **{part: without_confusion(result[part]) for part in PARTS},
            }


def without_confusion(scores: Mapping[str, object] | None) -> dict[str, object] | None:
    """Scores, and the recall of each class, but not what it was taken for."""
    return scores and {name: score for name, score in scores.items() if name != "confusion"}


def read(results: Path) -> dict[str, pd.DataFrame]:
    """The runs of each comparison, measures of the test data in percent."""
    runs = lines.frame(results)
    runs[[f"test.{measure}" for measure in MEASURES]] *= 100
    return dict(list(runs.groupby("comparison", sort=False)))


if __name__ == "__main__":
    main()
