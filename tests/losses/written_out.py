"""The losses written out with Python floats, one sample and one class at a time."""

from math import exp, log


def cross_entropy(z, y):
    largest = max(z)
    return largest + log(sum(exp(value - largest) for value in z)) - z[y]


def smoothed_cross_entropy(z, y, smoothing):
    spread = sum(cross_entropy(z, c) for c in range(len(z))) / len(z)
    return (1 - smoothing) * cross_entropy(z, y) + smoothing * spread


def focal(z, y, gamma):
    loss = cross_entropy(z, y)
    return (1 - exp(-loss)) ** gamma * loss


def class_balanced_weights(counts, beta):
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [weight * len(counts) / sum(raw) for weight in raw]


def class_balanced(z, y, counts, beta):
    return class_balanced_weights(counts, beta)[y] * cross_entropy(z, y)


def ldam(z, y, counts, max_margin, scale):
    quarter = [n**-0.25 for n in counts]
    margins = [max_margin * q / max(quarter) for q in quarter]
    return cross_entropy([scale * (value - (margins[y] if c == y else 0)) for c, value in enumerate(z)], y)


def balanced_softmax(z, y, counts):
    return cross_entropy([value + log(n) for value, n in zip(z, counts, strict=True)], y)


def logit_adjustment(z, y, counts, tau):
    return cross_entropy([value + tau * log(n / sum(counts)) for value, n in zip(z, counts, strict=True)], y)


def vector_scaling(z, y, counts, gamma, tau):
    smallest = min(n**-gamma for n in counts)
    scaled = [value / (n**-gamma / smallest) + tau * log(n / sum(counts)) for value, n in zip(z, counts, strict=True)]
    return cross_entropy(scaled, y)
