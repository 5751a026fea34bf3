"""Textbook float64 loops, written from the formulas; they share no code with the library."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Grads = list[Tensor | None]
LossesOf = Callable[[Tensor], Tensor]
"""Per-sample losses of the rows with these indices, forwarded together."""


def gradient(params: Sequence[Tensor], value: Tensor, *, retain: bool = False) -> Grads:
    wanted = [p for p in params if p.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=retain))
    return [next(found) if p.requires_grad else None for p in params]


def norm(grads: Grads) -> float:
    return sum(float((g.to_dense() ** 2).sum()) for g in grads if g is not None) ** 0.5


def perturbation(grads: Grads, rhos: Sequence[float], damping: float = 0.0) -> Grads:
    """e = rho g / (|g| + d); zero for a zero gradient."""
    length = norm(grads) + damping
    return [None if g is None or length == 0 else r * g / length for g, r in zip(grads, rhos, strict=True)]


@contextmanager
def displaced(params: Sequence[Tensor], shifts: Grads) -> Iterator[None]:
    before = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, e in zip(params, shifts, strict=True):
            if e is not None:
                p += e
    yield
    with torch.no_grad():
        for p, w in zip(params, before, strict=True):
            p.copy_(w)


def added(a: Grads, b: Grads) -> Grads:
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]


def sam_gradient(
    params: Sequence[Tensor], losses_of: LossesOf, size: int, rhos: Sequence[float], damping: float = 0.0
) -> Grads:
    """Foret et al. 2021, eq. 2: grad L(w + e), e = rho grad L(w) / |grad L(w)|."""
    rows = torch.arange(size)
    e = perturbation(gradient(params, losses_of(rows).mean()), rhos, damping)
    with displaced(params, e):
        return gradient(params, losses_of(rows).mean())


def imbsam_gradient(
    params: Sequence[Tensor],
    losses_of: LossesOf,
    in_tail: Tensor,
    rhos: Sequence[float],
    *,
    tail_weight: float = 1.0,
    damping: float = 0.0,
    tail_pass: Tensor | None = None,
) -> Grads:
    """grad L_head(w) + k grad L_tail(w + e), e along grad L_tail(w), both losses divided by the batch size.

    ``tail_pass`` are the rows forwarded for the tail's losses, all rows by default: what BatchNorm normalises with.
    """
    everything = torch.arange(len(in_tail))
    size = len(everything)
    tail_pass = everything if tail_pass is None else tail_pass
    is_tail = in_tail[tail_pass]

    def tail_loss() -> Tensor:
        return tail_weight * losses_of(tail_pass)[is_tail].sum() / size

    head: Grads = [None] * len(params)
    if not in_tail.all():
        head = gradient(params, losses_of(everything)[~in_tail].sum() / size)
    if not in_tail.any():
        return head
    e = perturbation(gradient(params, tail_loss()), rhos, damping)
    with displaced(params, e):
        return added(head, gradient(params, tail_loss()))


def published_imbsam_gradient(params: Sequence[Tensor], losses_of: LossesOf, in_tail: Tensor, rho: float) -> Grads:
    """The published code's rule: two forwards of the whole batch, three backwards, the tail's loss doubled."""
    size = len(in_tail)
    rows = torch.arange(size)
    losses = losses_of(rows)
    head = gradient(params, (losses * (~in_tail)).sum() / size, retain=True)
    tail = gradient(params, 2 * (losses * in_tail).sum() / size)
    e = [None if g is None else rho * g / (norm(tail) + 1e-16) for g in tail]
    with displaced(params, e):
        return added(head, gradient(params, 2 * (losses_of(rows) * in_tail).sum() / size))


class SGD:
    """v = mu v + g + lambda w, w = w - lr v."""

    def __init__(self, lr: float, momentum: float, weight_decay: float) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocity: dict[int, Tensor] = {}

    def step(self, params: Sequence[Tensor], grads: Grads) -> None:
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            if g is None:
                continue
            v = self.momentum * self.velocity.get(k, torch.zeros(())) + g + self.weight_decay * p.detach()
            self.velocity[k] = v
            with torch.no_grad():
                p -= self.lr * v


class AdamW:
    """Loshchilov and Hutter 2019, algorithm 2."""

    def __init__(self, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.moments: dict[int, tuple[int, Tensor, Tensor]] = {}

    def step(self, params: Sequence[Tensor], grads: Grads) -> None:
        b1, b2 = self.betas
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            if g is None:
                continue
            t, m, v = self.moments.get(k, (0, torch.zeros(()), torch.zeros(())))
            t, m, v = t + 1, b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            self.moments[k] = (t, m, v)
            with torch.no_grad():
                p *= 1 - self.lr * self.weight_decay
                p -= self.lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + self.eps)
