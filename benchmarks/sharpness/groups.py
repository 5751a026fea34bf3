"""Keep the numbers of the groups of a ``sharpness.json``, without spectra and surfaces: groups.py IN RUNS_JSONL.

The runs are put in the place of those under the same loss.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import lines

from imbsam.report.sharpness_runs import NUMBERS, SharpnessStudy, number
from imbsam.runs.sharpness_record import SharpnessRecord
from imbsam.storage.records import checked_record


def main() -> None:
    """Write a line for each run."""
    source, results = map(Path, sys.argv[1:])
    lines.replace(results, collected(source), key="loss")


def collected(source: Path) -> Iterator[dict[str, object]]:
    """The numbers of each run by group."""
    held = json.loads(source.read_text(encoding="utf-8"))["runs"]
    study = SharpnessStudy([checked_record(SharpnessRecord, run, f"{source}") for run in held])
    for run in study.runs:
        yield {
            "method": run.label,
            "seed": run.seed,
            "loss": run.loss,
            "settings": asdict(run.settings),
            "groups": {part: {name: number(run, part, name) for name in NUMBERS} for part in study.groups},
        }


if __name__ == "__main__":
    main()
