"""Print the Markdown table of a results folder: mean and 95 % interval over seeds, and paired differences.

Usage: python table.py RESULTS_FOLDER
"""

import json
import sys
from pathlib import Path
from statistics import mean

from imbsam.report import MEASURES, summarise

folder = Path(sys.argv[1])
comparison = json.loads((folder / "comparison.json").read_text())
results = [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/result.json"))]
summary = summarise(results, labels=comparison["methods"])


def cell(estimate, sign=""):
    if estimate is None:
        return "-"
    half = "" if estimate.half_width is None else f" ± {100 * estimate.half_width:.1f}"
    return f"{100 * estimate.mean:{sign}.1f}{half}"


print(f"`{comparison['command']}`\n")
print("| method | " + " | ".join(MEASURES) + " | few, against the first | rows forwarded | seconds |")
print("|---|" + "---|" * (len(MEASURES) + 3))
for label in summary.labels:
    own = [result for result in results if result["label"] == label]
    cells = [cell(summary.scores[label][measure]) for measure in MEASURES]
    against = "" if label == summary.baseline else cell(summary.differences[label]["few"], "+")
    rows, seconds = (mean(result[name] for result in own) for name in ("cost_ratio", "train_seconds"))
    print(f"| {label} | {' | '.join(cells)} | {against} | {rows:.2f} | {seconds:.0f} |")
