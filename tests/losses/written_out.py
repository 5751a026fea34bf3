"""The losses written out with Python floats, one sample and one class at a time."""

from collections.abc import Sequence
from math import exp, log

Numbers = Sequence[float]


def cross_entropy(z: Numbers, y: int) -> float:
    largest = max(z)
    return largest + log(sum(exp(value - largest) for value in z)) - z[y]


def smoothed_cross_entropy(z: Numbers, y: int, smoothing: float) -> float:
    spread = sum(cross_entropy(z, c) for c in range(len(z))) / len(z)
    return (1 - smoothing) * cross_entropy(z, y) + smoothing * spread


def focal(z: Numbers, y: int, gamma: float) -> float:
    loss = cross_entropy(z, y)
    return (1 - exp(-loss)) ** gamma * loss


def class_balanced_weights(counts: Numbers, beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [weight * len(counts) / sum(raw) for weight in raw]


def class_balanced(z: Numbers, y: int, counts: Numbers, beta: float) -> float:
    return class_balanced_weights(counts, beta)[y] * cross_entropy(z, y)


def ldam(z: Numbers, y: int, counts: Numbers, max_margin: float, scale: float) -> float:
    quarter = [n**-0.25 for n in counts]
    margins = [max_margin * q / max(quarter) for q in quarter]
    return cross_entropy([scale * (value - (margins[y] if c == y else 0)) for c, value in enumerate(z)], y)


def balanced_softmax(z: Numbers, y: int, counts: Numbers) -> float:
    return cross_entropy([value + log(n) for value, n in zip(z, counts, strict=True)], y)


def logit_adjustment(z: Numbers, y: int, counts: Numbers, tau: float) -> float:
    return cross_entropy([value + tau * log(n / sum(counts)) for value, n in zip(z, counts, strict=True)], y)


def vector_scaling(z: Numbers, y: int, counts: Numbers, gamma: float, tau: float) -> float:
    smallest = min(n**-gamma for n in counts)
    scaled = [value / (n**-gamma / smallest) + tau * log(n / sum(counts)) for value, n in zip(z, counts, strict=True)]
    return cross_entropy(scaled, y)
