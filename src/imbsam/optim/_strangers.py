"""Parameters that backward reaches and another optimizer owns, such as those of a loss; the passes leave them alone."""

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
"""Steps of all optimizers whose passes are open or wait to be applied, and some that are over."""


def owner_of(p: Tensor) -> "Step | None":
    """Return the step of another optimizer that the parameter's gradient is made for at present."""
    return next((step for step in STEPS if step.life in ("open", "done") and p in step.own), None)


def take_over(params: Sequence[Tensor]) -> list[Tensor]:
    """Void waiting steps of other optimizers over these parameters; return the parameters that no step waits for."""
    waiting = {p: owner_of(p) for p in params}
    for step in {step for step in waiting.values() if step is not None and step.life == "done"}:
        step.life = "dead"
    return [p for p in params if waiting[p] is None]


def leaves(value: Tensor) -> Iterator[Tensor]:
    """Find every tensor that the backward of a value reaches."""
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
    """Leaves of the losses that belong neither to the optimizer nor to the model.

    After the passes each has its gradient from before plus that of the batch's mean loss at the unperturbed weights, so
    that its own optimizer sees the same as without the passes. A leaf that waits for a step of another sharpness-aware
    optimizer is left as it is.
    """

    def __init__(self) -> None:
        self._found: list[TensorWeakRef] = []
        self._held: dict[Tensor, Tensor | None] = {}
        self._gained: dict[Tensor, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def start(self, known: Container[Tensor]) -> None:
        """Set aside the gradients of the strangers found so far that have not joined the optimizer since."""
        self._held, self._gained = {}, {}
        for p in [p for found in self._found if (p := found()) is not None and p not in known]:
            self._set_aside(p)

    def find(self, value: Tensor, known: Container[Tensor], *, backpropagated: bool = False) -> None:
        """Search for strangers in what is about to be backpropagated, or was just backpropagated for the first time."""
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
        """Put the strangers' earlier gradients back, so that a closure can clear or extend them."""
        for p, held in self._held.items():
            p.grad, self._held[p] = held, None

    def _set_aside(self, p: Tensor) -> None:
        other = owner_of(p)
        if other is not None and other.life == "open":
            raise PassError(
                "the passes of two optimizers are open at the same time, and the losses of one reach the parameters "
                "of the other: make them one after the other, or one method over both: ImbSAM([base, other_base], "
                "tail, ...)."
            )
        self._held[p] = p.grad
        p.grad = None

    def gain(self) -> None:
        """Count the gradient that a backward has left as part of the strangers' own."""
        for p in self._held:
            if p.grad is not None:
                self._gained[p] = self._gained[p] + p.grad if p in self._gained else p.grad
        self.forget()

    def gain_from(self, value: Tensor) -> None:
        """Count the gradient of a value, whose graph stays, as part of the strangers' own."""
        try:
            inputs = [p for p in self._held if p.requires_grad]
            torch.autograd.backward(value, inputs=inputs, retain_graph=True)
        except RuntimeError:
            # Reentrant checkpoints know no backward to some of the leaves alone.
            value.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        self.gain()

    def forget(self) -> None:
        """Drop the gradient that a backward has left at perturbed weights or for a direction."""
        for p in self._held:
            p.grad = None

    def end(self, *, keep: bool) -> None:
        """Give each stranger the gradient it had and, with ``keep``, what it has gained."""
        for p, held in self._held.items():
            gained = self._gained.get(p)
            p.grad = held
            if keep and gained is not None and owner_of(p) is None:
                add(p, gained)
        self._held, self._gained = {}, {}


def add(p: Tensor, gained: Tensor) -> None:
    """Add to a parameter's gradient as a backward would; the passes of its own optimizer may drop the result."""
    held = p.grad
    ours = held is None or is_left(held)
    p.grad = gained if held is None else held + gained
    if ours:
        leave(p.grad)


def leave(grad: Tensor) -> None:
    """Note that passes have left a gradient: as long as it is unchanged, the next passes may drop it."""
    grad.left_at = grad._version  # type: ignore[attr-defined]


def wait(grad: Tensor) -> None:
    """Note that a gradient comes from passes and waits for their step, even if the optimizer is deleted."""
    grad.waits_at = grad._version  # type: ignore[attr-defined]


def waits(grad: Tensor) -> bool:
    """Return whether a gradient comes from passes, and nothing was added to it since."""
    return getattr(grad, "waits_at", None) == grad._version


def leave_gradients(optimizer: Optimizer, *_: object) -> None:
    """Note that an optimizer's gradients have been applied: a hook for after its step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            grad = p.grad
            if grad is not None:
                grad.left_at = grad._version


def is_left(grad: Tensor) -> bool:
    """Return whether passes have left a gradient, and nothing was added to it since."""
    return getattr(grad, "left_at", None) == grad._version
