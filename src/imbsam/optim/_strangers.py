"""Parameters that backward reaches and another optimizer owns, as those of a loss: the passes leave them alone."""

import weakref
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import TensorWeakRef

from imbsam.errors import PassError

if TYPE_CHECKING:
    from imbsam.optim._step import Step

STEPS: "weakref.WeakSet[Step]" = weakref.WeakSet()
"""The steps of all optimizers whose passes are open, or wait to be applied, and some that are over."""


def owner_of(p: Tensor) -> "Step | None":
    """The step of another optimizer that the parameter's gradient is made for at present."""
    return next((step for step in STEPS if step.life in ("open", "done") and p in step.own), None)


def take_over(params: Sequence[Tensor]) -> list[Tensor]:
    """Void the steps of other optimizers over these parameters that wait, and give those that none waits for."""
    waiting = {p: owner_of(p) for p in params}
    for step in {step for step in waiting.values() if step is not None and step.life == "done"}:
        step.life = "dead"
    return [p for p in params if waiting[p] is None]


def leaves(value: Tensor) -> Iterator[Tensor]:
    """Every tensor that the backward of a value reaches."""
    seen, stack = set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        stack.extend(following for following, _ in node.next_functions)


class Strangers:
    """Leaves of the losses that are neither the optimizer's nor the model's.

    Each is left with what it had and the gradient of the batch's mean loss at the unperturbed weights: its own
    optimizer sees the same as without the passes. One that waits for a step of another sharpness-aware optimizer is
    left as it is.
    """

    def __init__(self) -> None:
        self._found: list[TensorWeakRef] = []
        self._held: dict[Tensor, Tensor | None] = {}
        self._gained: dict[Tensor, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def start(self, known: Container[Tensor]) -> None:
        """Set the gradients of those aside that were found before, and have not been given to the optimizer since."""
        self._held, self._gained = {}, {}
        for p in [p for found in self._found if (p := found()) is not None and p not in known]:
            self._set_aside(p)

    def find(self, value: Tensor, known: Container[Tensor], *, backpropagated: bool = False) -> None:
        """Look for more of them in what is about to be backpropagated, or has just been for the first time."""
        for p in leaves(value):
            if p in known or p in self._held:
                continue
            self._found.append(TensorWeakRef(p))
            found = p.grad
            self._set_aside(p)
            if backpropagated:
                # What it had before lies in there.
                self._held[p], p.grad = None, found

    def give_back(self) -> None:
        """Let a closure find what they had, to clear it or to add to it."""
        for p, held in self._held.items():
            p.grad, self._held[p] = held, None

    def _set_aside(self, p: Tensor) -> None:
        other = owner_of(p)
        if other is not None and other.life == "open":
            raise PassError(
                "the passes of two optimizers are open at once, and one's losses reach the other's parameters: make "
                "them one after the other, or one method over both: ImbSAM([base, other_base], tail, ...)."
            )
        self._held[p] = p.grad
        p.grad = None

    def gain(self) -> None:
        """Take what a backward has left as part of theirs."""
        for p in self._held:
            if p.grad is not None:
                self._gained[p] = self._gained[p] + p.grad if p in self._gained else p.grad
        self.forget()

    def gain_from(self, value: Tensor) -> None:
        """Take the gradient of a value, whose graph stays, as part of theirs."""
        try:
            inputs = [p for p in self._held if p.requires_grad]
            torch.autograd.backward(value, inputs=inputs, retain_graph=True)
        except RuntimeError:
            # Reentrant checkpoints know no backward to some of the leaves alone.
            value.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        self.gain()

    def forget(self) -> None:
        """Drop what a backward has left, as one at perturbed weights or of a direction."""
        for p in self._held:
            p.grad = None

    def end(self, *, keep: bool) -> None:
        """Give each what it had and, where ``keep``, what it has gained."""
        for p, held in self._held.items():
            gained = self._gained.get(p)
            p.grad = held
            if keep and gained is not None and owner_of(p) is None:
                add(p, gained)
        self._held, self._gained = {}, {}


def add(p: Tensor, gained: Tensor) -> None:
    """Add to a parameter's gradient as a backward would; the passes of its own optimizer may drop the outcome."""
    held = p.grad
    ours = held is None or is_left(held)
    p.grad = gained if held is None else held + gained
    if ours:
        leave(p.grad)


def leave(grad: Tensor) -> None:
    """Note that passes have left a gradient: as long as it stays as it is, the next may drop it."""
    grad.left_at = grad._version  # type: ignore[attr-defined]


def wait(grad: Tensor) -> None:
    """Note that a gradient is of passes and waits for their step, whatever becomes of the optimizer."""
    grad.waits_at = grad._version  # type: ignore[attr-defined]


def waits(grad: Tensor) -> bool:
    """Whether a gradient is of passes, and nobody has added to it since."""
    return getattr(grad, "waits_at", None) == grad._version


def leave_gradients(optimizer: Optimizer, *_: object) -> None:
    """Note that an optimizer's gradients have served: a hook for after its step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            grad = p.grad
            if grad is not None:
                grad.left_at = grad._version


def is_left(grad: Tensor) -> bool:
    """Whether passes have left a gradient, and nobody has added to it since."""
    return getattr(grad, "left_at", None) == grad._version
