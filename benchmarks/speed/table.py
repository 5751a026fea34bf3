"""Print what is in results as the tables of docs/speed.md; with --write put them there, between its marks.

Usage: python table.py [--write]
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from comparisons import read
from pages import DOCS, put
from paired import interval, wide

HERE = Path(__file__).parent
COMPARISONS = ("cifar10-lt", "fashion-mnist-lt", "kr-vs-k")
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


def accuracy() -> str:
    """Accuracy of the cheaper passes, a table for each data set."""
    lines: list[str] = []
    comparisons = read(HERE / "results" / "runs.jsonl")
    for runs in (comparisons[name] for name in COMPARISONS):
        few, overall = (wide(runs, f"test.{measure}") for measure in ("few", "overall"))
        first = runs.method.iloc[0]
        lines += [
            f"`{runs.command.iloc[0]}`",
            "",
            "| | few-shot recall | overall | few-shot, against whole batches | overall, against them | seeds |",
            "|---|---|---|---|---|---|",
        ]
        for method, own in runs.groupby("method", sort=False):
            cells = [interval(scores[method]) for scores in (few, overall)]
            for scores in (few, overall):
                gap = interval(scores[method] - scores[first], signed=True)
                cells.append("" if method == first else gap.replace("-0.0", "+0.0").replace("-", "\N{MINUS SIGN}"))
            lines.append(f"| {method} | {' | '.join(cells)} | {len(own)} |")
        lines.append("")
    return "\n".join([*lines, "Mean over the seeds in percent, ± half the 95 % t-interval; differences are paired."])


def trainer(found: dict) -> str:
    """Images a second of the training loop."""
    speeds = found["images_per_second"]
    plain = max(speed for name, speed in speeds.items() if name.startswith("plain"))
    lines = ["| loop | images a second | of the plain loop |", "|---|---|---|"]
    return "\n".join(lines + [f"| {name} | {speed:.0f} | {speed / plain:.2f} |" for name, speed in speeds.items()])


def main() -> None:
    results = HERE / "results"
    texts = {
        "speed": tables(json.loads((results / "speed.json").read_text())),
        "trainer": trainer(json.loads((results / "trainer.json").read_text())),
        "accuracy": accuracy(),
    }
    if "--write" not in sys.argv:
        print("\n\n".join(texts.values()))
        return
    put(DOCS / "speed.md", texts)


if __name__ == "__main__":
    main()
