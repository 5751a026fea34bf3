"""Rows with anomalies, some of them labelled."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """Rows X, what is known of them (1, 0, -1) as ``known``, and what they are (1 = anomaly) as ``truth``."""

    X: NDArray[np.float64] | NDArray[np.uint8]
    known: NDArray[np.int64]
    truth: NDArray[np.int64]


def blob_and_ring(rows: int = 300, anomalies: int = 30, labelled: int = 10, *, seed: int = 0) -> Table:
    """Normal rows in a blob, anomalies some way off in one direction, the labelled ones among them first."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4)) * [1.0, 2.0, 0.5, 10.0]
    truth = np.zeros(rows, dtype=np.int64)
    truth[:anomalies] = 1
    X[:anomalies] += [4.0, 6.0, 0.0, 0.0]
    known = np.zeros(rows, dtype=np.int64)
    known[:labelled] = 1
    order = rng.permutation(rows)
    return Table(X[order], known[order], truth[order])


def digits(normal: int = 240, anomalies: int = 30, labelled: int = 10, *, seed: int = 0) -> Table:
    """Pictures of 0 and 6, shape ``(N, 1, 8, 8)``, uint8; the anomalies are pictures of 4."""
    rng = np.random.default_rng(seed)
    images, digit = load_digits(return_X_y=True)
    usual = rng.permutation(np.flatnonzero(np.isin(digit, [0, 6])))[:normal]
    unusual = rng.permutation(np.flatnonzero(digit == 4))[:anomalies]
    order = rng.permutation(normal + anomalies)
    known = np.r_[np.ones(labelled), np.zeros(normal + anomalies - labelled)].astype(np.int64)
    truth = np.r_[np.ones(anomalies), np.zeros(normal)].astype(np.int64)
    X = images[np.r_[unusual, usual]].astype(np.uint8).reshape(-1, 1, 8, 8)
    return Table(X[order], known[order], truth[order])


@dataclass(frozen=True)
class Scaled:
    """Training rows as an objective sees them."""

    rows: Tensor
    kinds: Tensor

    def take(self, index: Tensor) -> Tensor:
        return self.rows[index]

    def blocks(self) -> tuple[Tensor, ...]:
        return torch.split(self.rows, 7)
