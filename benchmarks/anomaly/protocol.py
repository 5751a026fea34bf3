"""What every detector is given: training rows with a few labels, and test rows that nothing was fitted on."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

TRAIN_SHARE = 0.6
LABELS = ("anomalies-0.05", "anomalies-0.1", "anomalies-0.25", "anomalies-0.01", "rows-0.01")
"""How many training anomalies are labelled: a share of the training anomalies, or of all training rows."""
REST = ("contaminated", "clean")
"""The anomalies without a label stay in the training rows, unlabelled, or are taken out of them."""


@dataclass(frozen=True, eq=False)
class Task:
    """X_train with y_train (1 labelled anomaly, 0 unlabelled); X_test with the truth y_test (1 anomaly)."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and truth of a set, from ``NAME.npz`` with X and y."""
    with np.load(folder / f"{name}.npz") as data:
        return data["X"].astype(np.float64), data["y"].astype(np.int64)


def make_task(X: np.ndarray, y: np.ndarray, seed: int, labels: str, rest: str) -> Task:
    """One task; split and order of the labels follow from the seed alone, so that its tasks are paired."""
    rng = np.random.default_rng([seed, 60])
    train = training_rows(X, y, rng)
    X_train, truth = X[train], y[train]
    anomalies = rng.permutation(np.flatnonzero(truth == 1))
    known = anomalies[: labelled_number(labels, len(anomalies), len(truth))]
    y_train = np.zeros(len(truth), dtype=np.int64)
    y_train[known] = 1
    kept = np.ones(len(truth), dtype=bool) if rest == "contaminated" else truth == y_train
    return Task(X_train[kept], y_train[kept], X[~train], y[~train])


def training_rows(X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark 60 % of the anomalies and of the other rows; equal rows are on one side together."""
    group = np.unique(X, axis=0, return_inverse=True)[1].reshape(-1)
    size = np.bincount(group)
    anomalous = np.bincount(group, weights=y) > 0
    in_train = np.zeros(len(size), dtype=bool)
    for kind in (False, True):
        groups = rng.permutation(np.flatnonzero(anomalous == kind))
        filled = np.cumsum(size[groups])
        in_train[groups[filled <= round(TRAIN_SHARE * filled[-1])]] = True
    return in_train[group]


def labelled_number(labels: str, anomalies: int, rows: int) -> int:
    """How many anomalies are labelled, at least one and at most all."""
    of, share = labels.rsplit("-", 1)
    number = ceil(float(share) * anomalies) if of == "anomalies" else int(float(share) * rows)
    return min(max(number, 1), anomalies)


def measures(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve and average precision, in percent."""
    return {
        "auroc": 100 * float(roc_auc_score(truth, scores)),
        "ap": 100 * float(average_precision_score(truth, scores)),
    }
