"""Print what is in results as the tables of docs/speed.md; with --write put them there, between its marks.

Usage: python table.py [--write]
"""

import json
import sys
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).parents[1]))

from comparisons import read
from pages import DOCS, put
from paired import interval, wide

HERE = Path(__file__).parent
COMPARISONS = ("cifar10-lt", "fashion-mnist-lt", "kr-vs-k")
BESIDE = ("ImbSAM", "ImbSAM, reuse", "published rule", "SAM")


def tables(found: dict) -> str:
    """Both tables as Markdown."""
    several = len({case["precision"] for case in found["cases"]}) > 1
    lines = [
        "| model, batch | tail rows | plain step, ms | " + " | ".join(BESIDE) + " | limit 1 + t |",
        "|---|---|---|" + "---|" * (len(BESIDE) + 1),
    ]
    for case in (each for each in found["cases"] if "ImbSAM" in each["steps"]):
        steps = case["steps"]
        share = case["tail_rows"] / case["batch"]
        cells = [
            f"{steps[name]['ratio']:.2f} ({'–'.join(f'{q:.2f}' for q in steps[name]['quartiles'])})" for name in BESIDE
        ]
        sort = f", {case['precision']}" if several else ""
        first = [f"{case['title']}, {case['batch']}{sort}", f"{case['tail_rows']} ({100 * share:.0f} %)"]
        row = [*first, f"{steps['plain']['ms']:.1f}", *cells, f"{1 + share:.2f}"]
        lines.append(f"| {' | '.join(row)} |")
    wide = [case for case in found["cases"] if len(case["steps"]) > 1 + len(BESIDE)]
    wide = list({case["workload"]: case for case in reversed(wide)}.values())[::-1]
    if wide:
        lines += ["", "| method | " + " | ".join(case["title"] for case in wide) + " |", "|---|" + "---|" * len(wide)]
    for name in wide[0]["steps"] if wide else ():
        if name != "plain":
            lines.append(f"| {name} | " + " | ".join(f"{case['steps'][name]['ratio']:.2f}" for case in wide) + " |")
    by_class = "CC-SAM, classifier"
    classes = [case for case in found["cases"] if by_class in case["steps"] and case["workload"].startswith("vit")]
    if len(classes) > 1:
        ratios = ", ".join(f"{case['title']}: {case['steps'][by_class]['ratio']:.2f}" for case in classes)
        lines += ["", f"{by_class}, by the number of classes: {ratios}."]
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


def whole_runs(found: dict) -> str:
    """The section on whole runs; empty until each of them has been made with few epochs and with more."""
    took: dict[str, dict[int, list[dict]]] = {what: {} for what in found["order"]}
    for run in found["runs"]:
        took[run["what"]].setdefault(run["epochs"], []).append(run)
    if not all(len(by_length) == 2 for by_length in took.values()):
        return ""
    rows = []
    for what, by_length in took.items():
        (few, short), (many, long) = sorted(by_length.items())
        seconds, more = (median(run["cpu_seconds"] for run in runs) for runs in (short, long))
        epoch = (more - seconds) / (many - few)
        rows.append((what, found["images"] / epoch, median(run["peak_mib"] for run in long), seconds - few * epoch))
    number = min(len(runs) for by_length in took.values() for runs in by_length.values())
    lines = [
        "## A whole run",
        "",
        "What `imbsam train` and the optimizers take beside scripts as people write them "
        "(`python benchmarks/speed/whole_runs.py`): a ResNet-20 with BatchNorm on "
        f"{found['images']:,} long-tailed images of noise, batches of 128, float32, each run a process of its own. "
        "SGD and SAM are loops by hand that transform image by image; the loops below them differ in the optimizer "
        "alone. Start and end are imports, reading and the last test, for `imbsam train` the report, too.",
        "",
        "| run | images a second | of the first | peak memory, MiB | start and end, s |",
        "|---|---|---|---|---|",
    ]
    for what, speed, memory, rest in rows:
        lines.append(f"| {what} | {speed:.0f} | {speed / rows[0][1]:.2f} | {memory:.0f} | {rest:.1f} |")
    lines += [
        "",
        f"Seconds of the processor on one thread, torch {found['torch']}; medians of {number} runs of each length. A "
        "second measurement of the same loop was off by up to a fifth: smaller differences say nothing.",
    ]
    return "\n".join(lines)


def accelerator(made: Path) -> str:
    """The section on an accelerator; without a measurement, how to make one."""
    lines = ["## On an accelerator", ""]
    if not made.exists():
        return "\n".join([*lines, "Not measured so far: no GPU was available. `make gpu` tests and measures there."])
    lines += [
        "The same networks with batches of 128 to 1,024, in float32 and bfloat16 (`make gpu`). Few tail rows leave an "
        "accelerator idle, so that a pass over them costs more than its rows.",
        "",
    ]
    return "\n".join([*lines, tables(json.loads(made.read_text()))])


def main() -> None:
    results = HERE / "results"
    texts = {
        "speed": tables(json.loads((results / "speed.json").read_text())),
        "trainer": trainer(json.loads((results / "trainer.json").read_text())),
        "accuracy": accuracy(),
        "accelerator": accelerator(results / "speed-cuda.json"),
    }
    if (made := results / "whole_runs.json").exists():
        texts["whole runs"] = whole_runs(json.loads(made.read_text()))
    if "--write" not in sys.argv:
        print("\n\n".join(texts.values()))
        return
    put(DOCS / "speed.md", texts)


if __name__ == "__main__":
    main()
