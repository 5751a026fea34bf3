"""Folders of runs and comparisons with made-up scores, in the layout that training writes."""

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imbsam.anomaly.outstanding import Outstanding
from imbsam.report import write_report, write_sharpness
from imbsam.report.anomaly import Fitted
from imbsam.report.anomaly_fit import FitStudy, write_fit_report
from made_sharpness import made_sharpness

Json = dict[str, object]

HOSTILE_NAMES = [
    "<script>alert(1)</script>",
    '" onload="alert(2)',
    "' & </title></svg>",
    "n" * 300,
    "猫 Ünïcode قط 🐈",
    "two\nlines\tand \x00\x1b[31m",
    "$x_$ and \\$",
    "{{ 7 * 7 }}",
    "id=x url(#clip) \udc80",
    "",
]

# How much of the way from the frequent to the rare classes' recall a method loses.
LOSS = {"sgd": 0.75, "sam": 0.6, "imbsam": 0.35}


def long_tail(classes: int, largest: int = 200, factor: float = 40.0) -> list[int]:
    """Exponentially falling counts."""
    return [max(1, round(largest * factor ** (-c / max(1, classes - 1)))) for c in range(classes)]


def groups(counts: Sequence[int]) -> list[str]:
    return ["many" if n > 100 else "few" if n < 20 else "medium" for n in counts]


def metrics(counts: Sequence[int], loss: float, noise: np.random.Generator, *, confusion: bool) -> Json:
    """Scores computed from a drawn confusion matrix, whose rare classes are taken for frequent ones."""
    size, tests = len(counts), 40
    matrix = np.zeros((size, size), dtype=int)
    for true, count in enumerate(counts):
        rarity = 1 - math.log(1 + count) / math.log(1 + max(counts))
        hit = float(np.clip(0.95 - loss * rarity + noise.normal(0, 0.03), 0.02, 1))
        wrong = np.array(counts, dtype=float) + 1
        wrong[true] = 0
        shares = (1 - hit) * wrong / wrong.sum() if size > 1 else wrong
        shares[true] = 1 - shares.sum() + shares[true]
        matrix[true] = noise.multinomial(tests, shares)
    recall = matrix.diagonal() / tests
    names = np.array(groups(counts))
    scores: Json = {
        "samples": tests * size,
        "overall": float(recall.mean()),
        "balanced": float(recall.mean()),
        **{g: float(recall[names == g].mean()) if (names == g).any() else None for g in ("many", "medium", "few")},
        "macro_f1": float(recall.mean()) - 0.01,
        "log_loss": 1.2,
        "ece": 0.08,
        "per_class": recall.tolist(),
    }
    return scores | {"confusion": matrix.tolist() if confusion else None}


def make_run(
    folder: Path,
    *,
    label: str = "imbsam",
    seed: int = 0,
    counts: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    epochs: int = 12,
    shuffle: bool = False,
    **changes: object,
) -> Path:
    """Write ``result.json`` and ``metrics.jsonl``; ``changes`` replace entries of the result."""
    noise = np.random.default_rng([seed, len(label)])
    counts = list(counts or long_tail(10))
    if shuffle:
        counts = np.random.default_rng(seed).permutation(counts).tolist()
    loss = LOSS.get(label, 0.5)
    names = list(names or [f"class {c}" for c in range(len(counts))])
    result: Json = {
        "schema": 1,
        "name": f"{label}-seed{seed}",
        "method": label.split(":")[0],
        "label": label,
        "seed": seed,
        "source": "digits",
        "config": {"method": label, "seed": seed, "rho": 0.0 if label == "sgd" else 0.2, "lr": 0.1, "out": None},
        "classes": names,
        "counts": counts,
        "groups": groups(counts),
        "tail": [n < 20 for n in counts],
        "best_epoch": epochs - 2,
        "epochs": epochs,
        "test": metrics(counts, loss, noise, confusion=True),
        "validation": metrics(counts, loss, noise, confusion=True),
        "train_seconds": 10 + float(noise.random()),
        "rows_forward": 120_000,
        "cost_ratio": {"sgd": 1.0, "sam": 2.0}.get(label, 1.13),
        "notes": [],
        "versions": {"imbsam": "0.1.0", "torch": "2.13.0"},
        "device": "cpu",
        "finished": "2026-11-23T15:00:00Z",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result | changes))
    lines = [
        json.dumps(
            {
                "epoch": epoch,
                "epochs": epochs,
                "skipped": 0,
                "lr": 0.1,
                "rho": 0.2,
                "train_loss": 2.2 * math.exp(-epoch / 6) + 0.1 * float(noise.random()),
                "seconds": 0.5,
                "validation": metrics(counts, loss + 0.6 * math.exp(-epoch / 4), noise, confusion=False),
            }
        )
        for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_comparison(
    folder: Path, *, methods: Sequence[str] = ("sgd", "sam", "imbsam"), seeds: int = 3, **options: object
) -> Path:
    """Write ``comparison.json`` and a run for each method and seed; ``options`` go to each run."""
    runs = [f"runs/{label}-seed{seed}" for label in methods for seed in range(seeds)]
    for label in methods:
        for seed in range(seeds):
            make_run(folder / f"runs/{label}-seed{seed}", label=label, seed=seed, **options)
    comparison = {
        "schema": 1,
        "source": "digits",
        "methods": list(methods),
        "seeds": list(range(seeds)),
        "runs": runs,
        "command": "imbsam compare digits --methods sgd,sam,imbsam",
    }
    (folder / "comparison.json").write_text(json.dumps(comparison))
    return folder


@pytest.fixture
def run() -> Callable[..., Path]:
    return make_run


@pytest.fixture
def comparison() -> Callable[..., Path]:
    return make_comparison


@pytest.fixture
def hostile_names() -> list[str]:
    return HOSTILE_NAMES


@pytest.fixture(scope="session")
def digits_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison of three methods over three seeds that redraw which classes are rare."""
    return write_report(make_comparison(tmp_path_factory.mktemp("digits"), shuffle=True))


def add_examples(run: Path, pairs: Sequence[tuple[int, int]]) -> None:
    """Write ``examples.json`` with an image of 8 x 8 pixels for each pair of classes."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 120).save(buffer, format="PNG")
    image = {"name": "photo.png", "probability": 0.75, "png": base64.b64encode(buffer.getvalue()).decode()}
    confused = [{"true": true, "predicted": predicted, "images": [image]} for true, predicted in pairs]
    (run / "examples.json").write_text(json.dumps({"schema": 1, "split": "test", "confused": confused}))


@pytest.fixture(scope="session")
def examples_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison with the same rare classes in both seeds, and images of two confusions."""
    folder = make_comparison(tmp_path_factory.mktemp("examples"), seeds=2)
    confusion = np.diag([40] * 10)
    confusion[9, :2], confusion[9, 9] = (20, 10), 10
    for label in ("sgd", "imbsam"):
        for seed in range(2):
            path = folder / f"runs/{label}-seed{seed}"
            result = json.loads((path / "result.json").read_text())
            result["test"]["confusion"] = confusion.tolist()
            (path / "result.json").write_text(json.dumps(result))
            add_examples(path, [(9, 0), (9, 1)])
    return write_report(folder)


@pytest.fixture(scope="session")
def fit_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an anomaly detector's fit."""
    scores = np.random.default_rng(0).gamma(2.0, size=500)
    top = [Outstanding(f"row {n}", 9.0 - n, False, [("width", "4.2", 1.5)]) for n in range(3)]
    study = FitStudy(
        detector=Fitted("devnet", "imbsam", "log.csv", (480, 20, 0), "threshold 4: nothing was estimated"),
        threshold=4.0,
        scores=scores,
        anomalous=scores > 5,
        top=top,
        seconds=1.0,
    )
    return write_fit_report(tmp_path_factory.mktemp("fit"), study)


@pytest.fixture(scope="session")
def sharpness_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sharpness of two methods."""
    return write_sharpness(tmp_path_factory.mktemp("sharpness"), [made_sharpness(), made_sharpness("imbsam")])


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison in which every name tries to break it."""
    return write_report(
        make_comparison(
            tmp_path_factory.mktemp("hostile"),
            methods=("sgd", "<b>imbsam</b>&rho=$0.2$"),
            seeds=1,
            names=HOSTILE_NAMES,
            notes=["<img src=x onerror=alert(3)>", "{{ 7 * 7 }}"],
            source='"><script>alert(4)</script>',
            config={"<i>key</i>": "</td><script>alert(5)</script>"},
        )
    )
