"""Images a second and memory of a whole run: `imbsam train` beside what people write by hand.

    python benchmarks/speed/whole_runs.py [--repeats 3] [--epochs 1 2]

A ResNet-20 with BatchNorm, 1,024 images of noise in the format of CIFAR-10, long-tailed, batches of 128, one thread.
Each run is a process of its own, once with few epochs and once with more: what the further epochs took, in seconds of
the processor, gives the images a second, and what is left is start and end (imports, reading, the last test, and for
`imbsam train` the report). Peak memory is the operating system's. Loops by hand keep what people keep, a checkpoint
each epoch. Every finished run is written to results/whole_runs.json at once, and is not made again.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "whole_runs.json"
IMAGES, BATCH, CLASSES, IMBALANCE, TAIL_BELOW = 1024, 128, 10, 50, 30
LOOPS = ("SGD", "SAM", "SAM, pytorch-optimizer", "SGD, imbsam.optim", "SAM, imbsam.optim", "ImbSAM, imbsam.optim")
COMMANDS = {"imbsam train, sgd": "sgd", "imbsam train, sam": "sam", "imbsam train, imbsam": "imbsam"}
MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=2, default=(1, 2))
    parser.add_argument("--loop", choices=LOOPS, help="make this run only, in this process")
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    if asked.loop:
        by_hand(asked.loop, asked.data, asked.epochs[0])
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    found = {"images": IMAGES, "order": [*LOOPS, *COMMANDS], "torch": version("torch"), "runs": found["runs"]}
    done = {(run["what"], run["epochs"], run["repeat"]) for run in found["runs"]}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        subprocess.run([sys.executable, "-c", WRITE, str(archive), json.dumps(counts())], check=True)
        for repeat in range(asked.repeats):
            todo = [(what, epochs) for what in (*LOOPS, *COMMANDS) for epochs in asked.epochs]
            random.Random(repeat).shuffle(todo)
            for what, epochs in todo:
                if (what, epochs, repeat) in done:
                    continue
                out = Path(folder) / f"{what}-{epochs}-{repeat}"
                found["runs"].append(
                    {"what": what, "epochs": epochs, "repeat": repeat, **made(what, archive, epochs, out)}
                )
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
                print(found["runs"][-1], flush=True)


def counts() -> list[int]:
    """Images of each class: an exponential tail."""
    shares = [IMBALANCE ** (-rank / (CLASSES - 1)) for rank in range(CLASSES)]
    others = [round(IMAGES * share / sum(shares)) for share in shares[1:]]
    return [IMAGES - sum(others), *others]


WRITE = """
import json, pickle, sys
from pathlib import Path
import numpy as np

folder, counts = Path(sys.argv[1]), json.loads(sys.argv[2])
folder.mkdir()
draw = np.random.default_rng(0)
labels = draw.permutation(np.repeat(np.arange(len(counts)), counts))
rows = lambda number: draw.integers(0, 256, (number, 3072), dtype=np.uint8)
parts = {f"data_batch_{place}": own for place, own in enumerate(np.array_split(labels, 5), 1)}
parts["test_batch"] = np.arange(250) % len(counts)
for name, own in parts.items():
    content = {b"data": rows(len(own)), b"labels": own.tolist(), b"batch_label": name.encode(), b"filenames": []}
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
names = [f"class {number}".encode() for number in range(len(counts))]
(folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
"""


def made(what: str, archive: Path, epochs: int, out: Path) -> dict[str, float]:
    """Make a run, and say what it took of the processor and of memory."""
    if what in COMMANDS:
        options = f"--method {COMMANDS[what]} --model resnet20 --batch-size {BATCH} --epochs {epochs} --threads 1"
        options += f" --tail fewer-than={TAIL_BELOW} --loss cross-entropy --sampler shuffle --augment cifar --warmup 0"
        options += " --validation-fraction 0 --track none --quiet --out"
        words = ["-m", "imbsam", "train", str(archive), *options.split(), str(out)]
    else:
        words = [__file__, "--loop", what, "--data", str(archive), "--epochs", str(epochs), "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{what} ended with {process.returncode}.")
    seconds = used.ru_utime + used.ru_stime
    return {"cpu_seconds": round(seconds, 2), "peak_mib": round(used.ru_maxrss * MEMORY_UNIT / 2**20, 1)}


def by_hand(what: str, folder: Path, epochs: int) -> None:
    """A training script as people write it."""
    # Not in the process that starts the others, whose own memory would count as theirs.
    import loops

    loops.train(what, folder, epochs, batch=BATCH, classes=CLASSES, tail_below=TAIL_BELOW)


if __name__ == "__main__":
    main()
