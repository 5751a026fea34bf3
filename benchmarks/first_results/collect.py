"""Copy what a comparison measured, without its weights: results, epochs, the figure of shot groups.

Usage: python collect.py COMPARISON_FOLDER RESULTS_FOLDER
"""

import shutil
import sys
from pathlib import Path

source, target = map(Path, sys.argv[1:])
kept = ["comparison.json", "figures/groups.png", "runs/*/result.json", "runs/*/metrics.jsonl", "runs/*/config.yaml"]
for path in (path for pattern in kept for path in source.glob(pattern)):
    copy = target / path.relative_to(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
