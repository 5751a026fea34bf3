"""The price of a step, as a ratio to the same base optimizer's plain step.

    python benchmarks/speed/measure.py [--rounds 15] [--workloads mlp vit ...]

Every contender has its own copy of the model and makes its steps in the same process, one after another in an order
drawn anew each round; a round's ratio is its time over the plain step's of that round. Median and quartiles over the
rounds go to results/speed.json, with the machine and its load. Finished workloads are kept: remove the file to begin
anew. `figure.py` draws it, `table.py` writes the table of the documentation.
"""

import argparse
import copy
import json
import os
import platform
import random
import time
from pathlib import Path
from statistics import median, quantiles

import torch
from contenders import FAMILY, OURS, PLAIN, Make
from torch import nn
from workloads import WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results" / "speed.json"
TAILS = {
    "resnet32-gn": (0, 4, 13),
    "resnet32-bn": (0, 4, 13),
    "vit": (0, 3, 6),
    "vit-100": (3,),
    "vit-1000": (3,),
    "mlp": (0, 8, 26),
}
FAMILY_AT = {"vit": 3, "mlp": 8}
BY_CLASSES = ("plain", "CC-SAM, classifier")
"""What is timed for 100 and 1,000 classes."""
WARM_UP, BATCHES = 2, 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": []}
    done = {(case["workload"], case["tail_rows"]) for case in found["cases"]}
    for name in asked.workloads:
        workload = WORKLOADS[name]
        base = fresh(workload)
        for tail_rows in TAILS[name]:
            if (name, tail_rows) in done:
                continue
            contenders = PLAIN | OURS | (FAMILY if tail_rows == FAMILY_AT.get(name) else {})
            if name.startswith("vit-"):
                contenders = {each: (PLAIN | FAMILY)[each] for each in BY_CLASSES}
            rounds = asked.rounds * (20 if name == "mlp" else 1)
            case = {
                "workload": name,
                "title": workload.title,
                "batch": workload.batch,
                "tail_rows": tail_rows,
                "rounds": rounds,
                "load": round(os.getloadavg()[0], 1),
                "threads": asked.threads,
                "steps": measured(workload, base, tail_rows, contenders, rounds),
            }
            found["cases"].append(case)
            found["machine"] = {
                "torch": torch.__version__,
                "processor": processor(),
                "python": platform.python_version(),
            }
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            shown = {contender: step["ratio"] for contender, step in case["steps"].items()}
            print(name, tail_rows, f"load {case['load']}", shown, flush=True)


def fresh(workload: Workload) -> nn.Module:
    torch.manual_seed(0)
    return workload.model(workload.classes)


def measured(
    workload: Workload, base: nn.Module, tail_rows: int, contenders: dict[str, Make], rounds: int
) -> dict[str, dict[str, float]]:
    batches = workload.batches(tail_rows, BATCHES)
    steps = {name: make(copy.deepcopy(base), workload.tail(), workload.lr) for name, make in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, draw = list(steps), random.Random(0)
    for number in range(rounds + WARM_UP):
        draw.shuffle(order)
        for name in order:
            x, y = batches[number % BATCHES]
            began = time.perf_counter()
            steps[name](x, y)
            seconds[name].append(time.perf_counter() - began)
    of_plain = seconds["plain"][WARM_UP:]
    result = {}
    for name, every in seconds.items():
        ratios = [own / plain for own, plain in zip(every[WARM_UP:], of_plain, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        result[name] = {
            "ms": round(1e3 * median(every[WARM_UP:]), 3),
            "ratio": round(middle, 3),
            "quartiles": [round(low, 3), round(high, 3)],
        }
    return result


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


if __name__ == "__main__":
    main()
