"""What is timed: a plain step, our methods, the published rule written from its formula, other libraries."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam import ClassPriors, optim

Step = Callable[[Tensor, Tensor, Tensor], None]
"""From rows and their classes on the model's device, and the classes on the CPU, where a plan is made."""
Make = Callable[[nn.Module, Tensor, float], Step]
"""From a model, the mask of its tail classes and a learning rate to a step."""


def plain(model: nn.Module, tail: Tensor, lr: float) -> Step:
    """SGD as everybody writes it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(x: Tensor, y: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def published(model: nn.Module, tail: Tensor, lr: float, *, rho: float = 0.05) -> Step:
    """ImbSAM as its released script makes it: two forwards and three backwards of the whole batch, gradients cloned."""
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9)

    def grads() -> list[Tensor]:
        taken = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        optimizer.zero_grad()
        return taken

    def step(x: Tensor, y: Tensor, targets: Tensor) -> None:
        rare = tail[targets].to(y.device)
        optimizer.zero_grad()
        losses = cross_entropy(model(x), y, reduction="none")
        (losses[~rare].sum() / len(y)).backward(retain_graph=True)
        head = grads()
        (losses[rare].sum() / len(y)).backward()
        ascent = grads()
        length = torch.stack([g.norm() for g in ascent]).norm() + 1e-12
        with torch.no_grad():
            moves = [g * (rho / length) for g in ascent]
            for p, e in zip(params, moves, strict=True):
                p.add_(e)
        losses = cross_entropy(model(x), y, reduction="none")
        (losses[rare].sum() / len(y)).backward()
        with torch.no_grad():
            for p, e, g in zip(params, moves, head, strict=True):
                p.sub_(e)
                p.grad.add_(g)
        optimizer.step()

    return step


def ours(name: str, **options: object) -> Make:
    """A method of this library."""

    def make(model: nn.Module, tail: Tensor, lr: float) -> Step:
        # Every class as frequent as the next: priors decide what is weighed how much, not what is computed.
        priors = ClassPriors(torch.full((len(tail),), 100))
        optimizer = optim.create(name, model, priors=priors, tail=tail, base="sgd", lr=lr, momentum=0.9, **options)

        def step(x: Tensor, y: Tensor, targets: Tensor) -> None:
            with optimizer.passes(targets) as passes:
                for p in passes:
                    rows, classes = p.select(x, y)
                    p.backward(cross_entropy(model(rows), classes, reduction="none"))
            optimizer.step()

        return step

    return make


def peer(name: str, **options: object) -> Make:
    """A class-agnostic method of pytorch-optimizer, by its closure, or by its two steps where it has no closure."""

    def make(model: nn.Module, tail: Tensor, lr: float) -> Step:
        import pytorch_optimizer

        kind = getattr(pytorch_optimizer, name)
        if name == "GSAM":
            base = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
            constant = torch.optim.lr_scheduler.ConstantLR(base, factor=1.0)
            fixed = pytorch_optimizer.ProportionScheduler(
                constant, max_lr=lr, min_lr=0.0, max_value=0.05, min_value=0.05
            )
            optimizer = kind(model.parameters(), base_optimizer=base, model=model, rho_scheduler=fixed, alpha=0.4)

            def step(x: Tensor, y: Tensor, targets: Tensor) -> None:
                optimizer.set_closure(cross_entropy, x, y)
                optimizer.step()

            return step
        optimizer = kind(model.parameters(), torch.optim.SGD, lr=lr, momentum=0.9, **options)

        def step(x: Tensor, y: Tensor, targets: Tensor) -> None:
            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = cross_entropy(model(x), y)
                loss.backward()
                return loss

            closure()
            optimizer.step(closure)

        return step

    return make


PEER = "pytorch-optimizer"
PLAIN = {"plain": plain}
OURS = {
    "ImbSAM": ours("imbsam"),
    "ImbSAM, reuse": ours("imbsam", ascent="reuse"),
    "published rule": published,
    "SAM": ours("sam"),
}
_FAMILY = {
    "SAM, pytorch-optimizer": peer("SAM"),
    "GSAM": ours("gsam"),
    "GSAM, pytorch-optimizer": peer("GSAM"),
    "Friendly-SAM": ours("friendly-sam"),
    "Friendly-SAM, pytorch-optimizer": peer("FriendlySAM"),
    "LookSAM": ours("looksam"),
    "LookSAM, pytorch-optimizer": peer("LookSAM", k=5),
    "Focal-SAM": ours("focal-sam"),
    "SSE-SAM": ours("sse-sam"),
    "CC-SAM": ours("cc-sam"),
    "CC-SAM, classifier": ours("cc-sam", classifier="classifier"),
}
FAMILY = {name: make for name, make in _FAMILY.items() if PEER not in name or find_spec(PEER.replace("-", "_"))}
"""Without the other library, ours alone."""
