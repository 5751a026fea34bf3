"""Print the read-me's tables of results/runs.jsonl: mean and 95 % interval over the seeds, and paired differences."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import pandas as pd
from comparisons import MEASURES, read
from paired import interval, wide


def main() -> None:
    """Print one for each comparison, under its command."""
    for runs in read(Path(__file__).parent / "results" / "runs.jsonl").values():
        print(f"`{runs.command.iloc[0]}`\n\n{table(runs)}\n")


def table(runs: pd.DataFrame) -> str:
    """A line for each method; the differences are to the first."""
    scores = [wide(runs, f"test.{measure}") for measure in MEASURES]
    few, first = wide(runs, "test.few"), runs.method.iloc[0]
    lines = [
        f"| method | {' | '.join(MEASURES)} | few, against the first | rows forwarded | seconds |",
        f"|---|{'---|' * (len(MEASURES) + 3)}",
    ]
    for method, own in runs.groupby("method", sort=False):
        against = "" if method == first else interval(few[method] - few[first], signed=True)
        cells = [method, *(interval(score[method]) for score in scores), against]
        cells += [f"{own.cost_ratio.mean():.2f}", f"{own.train_seconds.mean():.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
