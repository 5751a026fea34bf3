"""Textbook float64 loops, written from the formulas; they share no code with the library."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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


@contextmanager
def weighted_batch_norm(weights: Tensor) -> Iterator[None]:
    """BatchNorm by E[x] = sum_r w_r x_r / n and E[x^2] - E[x]^2, over rows r and the n places of a channel."""

    def normalised(
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        flat = x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)
        first = torch.einsum("r,rcs->c", weights, flat) / flat.shape[2]
        second = torch.einsum("r,rcs->c", weights, flat**2) / flat.shape[2]
        mean, variance = first[:, None], (second - first**2)[:, None]
        return ((flat - mean) / (variance + eps) ** 0.5 * weight[:, None] + bias[:, None]).reshape(x.shape)

    ordinary = torch.nn.functional.batch_norm
    torch.nn.functional.batch_norm = normalised  # type: ignore[assignment]
    yield
    torch.nn.functional.batch_norm = ordinary


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


# The family: terms, directions, and what the methods make of the passes


@dataclass(frozen=True)
class Addend:
    """grad [sum_i descent_i l_i] (w + e), e along grad [sum_i ascent_i l_i] (w); without an ascent e is zero."""

    descent: Tensor
    ascent: Tensor | None = None
    rhos: Sequence[float] = ()
    key: int = 0
    """What a direction that remembers goes by."""


Direction = Callable[[int, Sequence[Tensor], Grads, Sequence[float]], Grads]
"""From an addend's key, the parameters, their ascent gradients and rhos to the perturbation."""


def weighted_gradient(params: Sequence[Tensor], losses_of: LossesOf, weights: Tensor, *, coupled: bool) -> Grads:
    """Rows without a weight are forwarded only where the others see them."""
    if not weights.any():
        return [None] * len(params)
    rows = torch.arange(len(weights)) if coupled else weights.nonzero().squeeze(1)
    return gradient(params, (losses_of(rows) * weights[rows]).sum())


def family_gradient(
    params: Sequence[Tensor], losses_of: LossesOf, addends: Sequence[Addend], direction: Direction, *, coupled: bool
) -> Grads:
    total: Grads = [None] * len(params)
    for addend in addends:
        e: Grads = [None] * len(params)
        if addend.ascent is not None and addend.ascent.any() and any(addend.rhos):
            along = weighted_gradient(params, losses_of, addend.ascent, coupled=coupled)
            e = direction(addend.key, params, along, addend.rhos)
        with displaced(params, e):
            total = added(total, weighted_gradient(params, losses_of, addend.descent, coupled=coupled))
    return total


def plain_direction(damping: float = 0.0) -> Direction:
    return lambda key, params, grads, rhos: perturbation(grads, rhos, damping)


def rise_direction(rise: float) -> Direction:
    """The plain perturbation, shortened until <g, e> is no more than the rise."""

    def direction(key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        e = perturbation(grads, rhos)
        risen = sum(float((g * x).sum()) for g, x in zip(grads, e, strict=True) if g is not None and x is not None)
        return [None if x is None else x * min(1.0, rise / risen) if risen else x for x in e]

    return direction


class LESAMDirection:
    """Wang et al. 2026: rho_t = min(sigma_t / |g|, rho_max), e = rho_t g / |g|; one rho_max for all parameters.

    sigma_t falls from its value after ``first`` steps to 0 after ``last``, along half a cosine.
    """

    def __init__(self, sigma: float, first: int, last: int) -> None:
        self.sigma, self.first, self.last = sigma, first, last
        self.steps = 0

    def __call__(self, key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        share = min(1.0, max(0.0, (self.steps - self.first) / (self.last - self.first)))
        sigma = self.sigma * 0.5 * (1 + math.cos(math.pi * share))
        self.steps += 1
        length = norm(grads)
        rho = min(sigma / length, rhos[0])
        return [None if g is None else rho * g / length for g in grads]


def adaptive_direction(eta: float, adapted: Sequence[bool], damping: float = 0.0) -> Direction:
    """Kwon et al. 2021: e = rho T^2 g / |T g|, T = |w| + eta, or 1 for a parameter that is not adapted."""

    def direction(key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        sizes = [p.detach().abs() + eta if a else torch.ones_like(p) for p, a in zip(params, adapted, strict=True)]
        length = norm([None if g is None else t * g for g, t in zip(grads, sizes, strict=True)]) + damping
        return [
            None if g is None or length == 0 else r * t**2 * g / length
            for g, t, r in zip(grads, sizes, rhos, strict=True)
        ]

    return direction


class FriendlyDirection:
    """Li et al. 2024: d = g - sigma m with the old m, then m = lambda m + (1 - lambda) g; the first g is m and d."""

    def __init__(self, sigma: float, decay: float, damping: float = 0.0) -> None:
        self.sigma, self.decay, self.damping = sigma, decay, damping
        self.mean: dict[tuple[int, int], Tensor] = {}

    def __call__(self, key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        ahead: Grads = []
        for k, g in enumerate(grads):
            m = self.mean.get((key, k))
            if g is None:
                ahead.append(None)
            elif m is None:
                ahead.append(g)
                self.mean[key, k] = g
            else:
                ahead.append(g - self.sigma * m)
                self.mean[key, k] = self.decay * m + (1 - self.decay) * g
        return perturbation(ahead, rhos, self.damping)


class VaSSODirection:
    """Li and Giannakis 2023: d = (1 - theta) d + theta g, e = rho d / |d|; the first g is d."""

    def __init__(self, theta: float, damping: float = 0.0) -> None:
        self.theta, self.damping = theta, damping
        self.average: dict[tuple[int, int], Tensor] = {}

    def __call__(self, key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        for k, g in enumerate(grads):
            if g is not None:
                d = self.average.get((key, k))
                self.average[key, k] = g if d is None else (1 - self.theta) * d + self.theta * g
        along = [None if g is None else self.average[key, k] for k, g in enumerate(grads)]
        return perturbation(along, rhos, self.damping)


class Momentum:
    """Becker et al. 2024: gradients at w - rho v / |v|, v = mu v + g (SGD) or beta v + (1 - beta) g (Adam)."""

    def __init__(self, mu: float, of_gradient: float, weight_decay: float) -> None:
        self.mu, self.of_gradient, self.weight_decay = mu, of_gradient, weight_decay
        self.velocity: dict[int, Tensor] = {}

    def shift(self, params: Sequence[Tensor], rhos: Sequence[float]) -> Grads:
        against = [-self.velocity[k] if k in self.velocity else None for k in range(len(params))]
        return perturbation(against, rhos)

    def learn(self, params: Sequence[Tensor], grads: Grads) -> None:
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            if g is not None:
                old = self.velocity.get(k, torch.zeros(()))
                self.velocity[k] = self.mu * old + self.of_gradient * (g + self.weight_decay * p.detach())


def clamped_noise(params: Sequence[Tensor], length: float) -> Grads:
    """Li et al. 2024 (GNM): entries of length * clamp(N(0, 1/3), -1, 1), the normal given by its deviation."""
    drawn = [torch.randn(p.shape, dtype=p.dtype) / 3 if p.requires_grad else None for p in params]
    return [None if x is None else length * torch.clamp(x, -1, 1) for x in drawn]


Draw = Callable[[Sequence[Tensor]], list[Tensor]]


def normal_draw(params: Sequence[Tensor]) -> list[Tensor]:
    return [torch.randn(p.shape, dtype=p.dtype) for p in params]


def sphere_draw(params: Sequence[Tensor]) -> list[Tensor]:
    drawn = normal_draw(params)
    length = norm(list(drawn))
    return [x / length for x in drawn]


def cube_draw(half_width: float) -> Draw:
    return lambda params: [(2 * torch.rand(p.shape, dtype=p.dtype) - 1) * half_width for p in params]


def random_shift(params: Sequence[Tensor], rhos: Sequence[float], draw: Draw) -> Grads:
    drawn = iter(draw([p for p in params if p.requires_grad]))
    return [r * next(drawn) if p.requires_grad else None for p, r in zip(params, rhos, strict=True)]


def random_direction(draw: Draw) -> Direction:
    return lambda key, params, grads, rhos: random_shift(params, rhos, draw)


def stochastic_direction(beta: float, groups: Sequence[Sequence[int]]) -> Direction:
    """Du et al. 2022: each tensor with probability beta, e = (rho / beta) g / |g| over the chosen ones."""

    def direction(key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        chosen: set[int] = set()
        for group in groups:
            reached = [k for k in group if grads[k] is not None]
            chosen |= {k for k, u in zip(reached, torch.rand(len(reached)).tolist(), strict=True) if u < beta}
        kept = [g if k in chosen else None for k, g in enumerate(grads)]
        return perturbation(kept, [r / beta for r in rhos])

    return direction


def class_conditional_direction(*, per_tensor: bool) -> Direction:
    """CC-SAM: e = s sqrt(P) g / |g|, s = rho sqrt(|w|) / sqrt(2 |g|) / P^(1/4), P the entries that are perturbed."""

    def direction(key: int, params: Sequence[Tensor], grads: Grads, rhos: Sequence[float]) -> Grads:
        mine = [k for k, (g, r) in enumerate(zip(grads, rhos, strict=True)) if g is not None and r > 0]
        entries = sum(params[k].numel() for k in mine)
        shifts: Grads = [None] * len(params)
        for part in [[k] for k in mine] if per_tensor else [mine]:
            w, g = norm([params[k].detach() for k in part]), norm([grads[k] for k in part])
            for k in part:
                if g > 0:
                    s = rhos[k] * w**0.5 / (2 * g) ** 0.5 / entries**0.25
                    shifts[k] = s * entries**0.5 * grads[k] / g
        return shifts

    return direction


def inner(a: Grads, b: Grads) -> float:
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True) if x is not None and y is not None)


def combined(a: Grads, b: Grads, factor: float) -> Grads:
    """a + factor b."""
    return added(a, [None if y is None else factor * y for y in b])


def gsam_gradient(plain: Grads, perturbed: Grads, alpha: float) -> Grads:
    """Zhuang et al. 2022: g_p - alpha (g - (<g, g_p> / |g_p|^2) g_p)."""
    across = combined(plain, perturbed, -inner(plain, perturbed) / norm(perturbed) ** 2)
    return combined(perturbed, across, -alpha)


class LookSAM:
    """Liu et al. 2022: every k steps SAM's g_s, keeping g_v = g_s - <g_s, g> g / |g|^2; else g + a |g| g_v / |g_v|."""

    def __init__(self, interval: int, alpha: float, *, per_tensor: bool = False) -> None:
        self.interval, self.alpha, self.per_tensor = interval, alpha, per_tensor
        self.steps = 0
        self.across: Grads = []

    def gradient(self, params: Sequence[Tensor], losses_of: LossesOf, size: int, rhos: Sequence[float]) -> Grads:
        plain = gradient(params, losses_of(torch.arange(size)).mean())
        self.steps += 1
        if (self.steps - 1) % self.interval:
            return self.by_part(plain, self.across, self.leaning)
        perturbed = sam_gradient(params, losses_of, size, rhos)
        self.across = self.by_part(perturbed, plain, lambda g_s, g: combined(g_s, g, -inner(g_s, g) / norm(g) ** 2))
        return perturbed

    def leaning(self, plain: Grads, across: Grads) -> Grads:
        return combined(plain, across, self.alpha * norm(plain) / (norm(across) + 1e-8))

    def by_part(self, a: Grads, b: Grads, rule: Callable[[Grads, Grads], Grads]) -> Grads:
        if not self.per_tensor:
            return rule(a, b)
        return [None if x is None else rule([x], [y])[0] for x, y in zip(a, b, strict=True)]


def esam_gradient(
    params: Sequence[Tensor],
    losses_of: LossesOf,
    size: int,
    rhos: Sequence[float],
    direction: Direction,
    gamma: float,
    *,
    coupled: bool,
) -> Grads:
    """The mean loss at w + e over the share gamma of the rows whose loss rises most, at least one."""
    rows = torch.arange(size)
    before = losses_of(rows)
    e = direction(0, params, gradient(params, before.mean()), rhos)
    with displaced(params, e):
        rises = (losses_of(rows) - before).detach().tolist()
        number = max(1, int(gamma * size))
        weights = torch.zeros(size, dtype=torch.float64)
        weights[sorted(range(size), key=lambda i: -rises[i])[:number]] = 1 / number
        return weighted_gradient(params, losses_of, weights, coupled=coupled)


Scalar = Callable[[float], float]


def universal_gradient(
    params: Sequence[Tensor],
    losses_of: LossesOf,
    size: int,
    rhos: Sequence[float],
    draw: Draw,
    *,
    samples: int,
    strength: float,
    psi: Scalar,
    psi_prime: Scalar,
    phi_prime: Scalar,
) -> Grads:
    """Bahri et al. 2024: g_0 + lambda phi'(s) (1/n) sum psi'(d_i) (g_i - g_0), d_i = (L_i - L_0) / rho^2."""
    rows, rho = torch.arange(size), max(rhos)
    loss = losses_of(rows).mean()
    rises, differences = [], []
    g_0 = gradient(params, loss)
    for _ in range(samples):
        with displaced(params, random_shift(params, rhos, draw)):
            moved = losses_of(rows).mean()
            rises.append(float((moved - loss).detach()) / rho**2)
            differences.append(combined(gradient(params, moved), g_0, -1.0))
    outer = phi_prime(sum(psi(d) for d in rises) / samples)
    total = g_0
    for d, difference in zip(rises, differences, strict=True):
        total = combined(total, difference, strength * outer * psi_prime(d) / samples)
    return total


def frob_gradient(
    params: Sequence[Tensor],
    losses_of: LossesOf,
    size: int,
    rhos: Sequence[float],
    *,
    samples: int,
    strength: float,
) -> Grads:
    """g_0 + (lambda / rho^2) [sum L_i g_i / (n - 1) - sum L_i sum g_i / (n (n - 1))]."""
    rows, n = torch.arange(size), samples
    loss_sum = 0.0
    gradient_sum: Grads = [None] * len(params)
    cross_sum: Grads = [None] * len(params)
    g_0 = gradient(params, losses_of(rows).mean())
    for _ in range(n):
        with displaced(params, random_shift(params, rhos, normal_draw)):
            loss = losses_of(rows).mean()
            g = gradient(params, loss)
            loss_sum += float(loss.detach())
            gradient_sum, cross_sum = added(gradient_sum, g), combined(cross_sum, g, float(loss.detach()))
    factor = strength / max(rhos) ** 2 / (n - 1)
    return combined(combined(g_0, cross_sum, factor), gradient_sum, -factor * loss_sum / n)
