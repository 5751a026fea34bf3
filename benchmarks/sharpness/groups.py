"""Keep the numbers of the groups of a ``sharpness.json``, without spectra and surfaces: groups.py IN OUT."""

import json
import sys
from pathlib import Path

from imbsam.report.sharpness_runs import NUMBERS, SharpnessStudy, number


def main() -> None:
    """Write a line for each run."""
    source, out = map(Path, sys.argv[1:])
    study = SharpnessStudy.of(json.loads(source.read_text(encoding="utf-8"))["runs"])
    lines = [
        json.dumps(
            {
                "label": run["label"],
                "seed": run["seed"],
                "loss": run["loss"],
                "settings": run["settings"],
                "groups": {part: {name: number(run, part, name) for name in NUMBERS} for part in study.groups},
            }
        )
        for run in study.runs
    ]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
