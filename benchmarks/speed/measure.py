"""The price of a step, as a ratio to the same base optimizer's plain step.

    python benchmarks/speed/measure.py [--rounds 15] [--workloads mlp vit ...]
    python benchmarks/speed/measure.py --device cuda --batches 128 256 512 1024 --precisions float32 bfloat16

Every contender has its own copy of the model and makes its steps in the same process, one after another in an order
drawn anew each round; a round's ratio is its time over the plain step's of that round. An accelerator is waited for
before and after each step. Median and quartiles over the rounds go to results/speed.json, or to the file after --out,
with the machine and its load. Finished cases are kept: remove the file to begin anew. `figure.py` draws it, `table.py`
writes the table of the documentation.
"""

import argparse
import copy
import json
import os
import platform
import random
import time
from itertools import product
from pathlib import Path
from statistics import median, quantiles

import torch
from contenders import FAMILY, OURS, PLAIN, Make, Step
from torch import Tensor, nn
from workloads import WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results"
TAILS = {
    "resnet32-gn": (0, 4, 13),
    "resnet32-bn": (0, 4, 13),
    "vit": (0, 3, 6),
    "vit-100": (3,),
    "vit-1000": (3,),
    "mlp": (0, 8, 26),
    "digits": (0, 1, 3),
}
"""Tail rows of a batch of the workload's own size; larger batches have more in proportion."""
FAMILY_AT = {"vit": 3, "mlp": 8}
BY_CLASSES = ("plain", "CC-SAM, classifier")
"""What is timed for 100 and 1,000 classes."""
SMALL = ("mlp", "digits")
"""Steps of a few milliseconds, which take more rounds."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WARM_UP, BATCHES = 2, 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batches", nargs="+", type=int, help="rows of a batch; each workload's own by default")
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=list(PRECISIONS))
    parser.add_argument("--out", type=Path, help="results/speed.json by default, and speed-DEVICE.json elsewhere")
    asked = parser.parse_args()
    if asked.device.type == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA here, and nothing is timed")
        return
    own = "speed.json" if asked.device.type == "cpu" else f"speed-{asked.device.type}.json"
    out = RESULTS / own if asked.out is None else asked.out
    torch.set_num_threads(asked.threads)
    found = json.loads(out.read_text()) if out.exists() else {"cases": []}
    done = {key_of(case) for case in found["cases"]}
    for name in asked.workloads:
        workload = WORKLOADS[name]
        base = fresh(workload)
        for batch, precision, usual in product(asked.batches or (workload.batch,), asked.precisions, TAILS[name]):
            case = {
                "workload": name,
                "title": workload.title,
                "batch": batch,
                "tail_rows": round(usual * batch / workload.batch),
                "precision": precision,
                "rounds": asked.rounds * (20 if name in SMALL else 1),
                "load": round(os.getloadavg()[0], 1),
                "threads": asked.threads,
            }
            if key_of(case) in done:
                continue
            contenders = PLAIN | OURS | (FAMILY if usual == FAMILY_AT.get(name) else {})
            if name.startswith("vit-"):
                contenders = {each: (PLAIN | FAMILY)[each] for each in BY_CLASSES}
            case["steps"] = measured(workload, base, case, contenders, asked.device)
            found["cases"].append(case)
            found["machine"] = {
                "torch": torch.__version__,
                "processor": processor(asked.device),
                "python": platform.python_version(),
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1) + "\n")
            shown = {contender: step["ratio"] for contender, step in case["steps"].items()}
            print(name, batch, case["tail_rows"], precision, f"load {case['load']}", shown, flush=True)


def key_of(case: dict) -> tuple[str, int, int, str]:
    """What tells a case from the others of a file."""
    return case["workload"], case["batch"], case["tail_rows"], case["precision"]


def fresh(workload: Workload) -> nn.Module:
    torch.manual_seed(0)
    return workload.model(workload.classes)


def measured(
    workload: Workload, base: nn.Module, case: dict, contenders: dict[str, Make], device: torch.device
) -> dict[str, dict[str, float]]:
    batches = [
        (x.to(device), y.to(device), y) for x, y in workload.batches(case["tail_rows"], BATCHES, rows=case["batch"])
    ]
    steps = {}
    for name, make in contenders.items():
        model = copy.deepcopy(base).to(device)
        if case["precision"] != "float32":
            model.forward = torch.autocast(device.type, PRECISIONS[case["precision"]])(model.forward)
        steps[name] = make(model, workload.tail(), workload.lr)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, draw = list(steps), random.Random(0)
    for number in range(case["rounds"] + WARM_UP):
        draw.shuffle(order)
        for name in order:
            seconds[name].append(timed(steps[name], *batches[number % BATCHES], device))
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


def timed(step: Step, x: Tensor, y: Tensor, targets: Tensor, device: torch.device) -> float:
    """Seconds of a step, from and to where the device has nothing to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    began = time.perf_counter()
    step(x, y, targets)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began


def processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


if __name__ == "__main__":
    main()
