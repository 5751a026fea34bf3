"""Print results/speed.json as the tables of docs/speed.md; with --write put them there, between its marks.

Usage: python table.py [--write]
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "speed.md"
BESIDE = ("ImbSAM", "ImbSAM, reuse", "published rule", "SAM")


def tables(found: dict) -> str:
    """Both tables as Markdown."""
    lines = [
        "| model, batch | tail rows | plain step, ms | " + " | ".join(BESIDE) + " | limit 1 + t |",
        "|---|---|---|" + "---|" * (len(BESIDE) + 1),
    ]
    for case in found["cases"]:
        steps = case["steps"]
        share = case["tail_rows"] / case["batch"]
        cells = [
            f"{steps[name]['ratio']:.2f} ({'–'.join(f'{q:.2f}' for q in steps[name]['quartiles'])})" for name in BESIDE
        ]
        first = [f"{case['title']}, {case['batch']}", f"{case['tail_rows']} ({100 * share:.0f} %)"]
        row = [*first, f"{steps['plain']['ms']:.1f}", *cells, f"{1 + share:.2f}"]
        lines.append(f"| {' | '.join(row)} |")
    wide = [case for case in found["cases"] if len(case["steps"]) > 1 + len(BESIDE)]
    lines += ["", "| method | " + " | ".join(case["title"] for case in wide) + " |", "|---|" + "---|" * len(wide)]
    for name in wide[0]["steps"] if wide else ():
        if name != "plain":
            lines.append(f"| {name} | " + " | ".join(f"{case['steps'][name]['ratio']:.2f}" for case in wide) + " |")
    machine = found["machine"]
    loads = sorted(case["load"] for case in found["cases"])
    lines += [
        "",
        f"Median over the rounds (quartiles in brackets) on {machine['processor']}, torch {machine['torch']}, "
        f"{found['cases'][0]['threads']} threads; load average while measuring {loads[0]} to {loads[-1]}.",
    ]
    return "\n".join(lines)


def main() -> None:
    text = tables(json.loads((HERE / "results" / "speed.json").read_text()))
    if "--write" not in sys.argv:
        print(text)
        return
    page = re.sub(
        r"(<!-- speed -->\n).*?(\n<!-- /speed -->)", lambda m: m[1] + text + m[2], PAGE.read_text(), flags=re.S
    )
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
