"""Gradients of one step by name: one accumulates in ``.grad``, the others are set aside by reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from imbsam.errors import PassError
from imbsam.optim._plan import STEP
from imbsam.optim._strangers import add, is_left, owner_of, take_over, wait, waits
from imbsam.optim._weights import Reached
from imbsam.optim.ascent import Memory, global_norm

MeanOverRanks = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class Parts:
    """Gradients and losses of one step by name, before they are combined.

    ``"step"`` is the gradient that the base optimizer would see, ``"ascent k"`` the gradient that term k climbed along
    (where the method sets ``keeps_ascents``), and ``"descent k"`` the gradient of term k at its perturbed weights
    (where the term is ``apart``). Each is a gradient of the whole batch; on several ranks, of the rows of all ranks.

    Args:
        params: Every parameter that may have a gradient, of any shapes.
        gradients: Gradients by name, aligned with ``params`` and of their shapes; ``None`` where backward did not
            reach.
        losses: Weighted loss of this rank's rows by name, shape ``()`` each.
        mean: Averages such losses over the ranks.
        loss_scale: Factor of the losses given to ``backward``, and so of the gradients.

    Attributes:
        params: The parameters that some gradient has reached, of any shapes.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        gradients: Mapping[str, Sequence[Tensor | None]],
        losses: Mapping[str, Tensor],
        mean: MeanOverRanks,
        loss_scale: float = 1.0,
    ) -> None:
        self.loss_scale = loss_scale
        self.reached = [i for i in range(len(params)) if any(grads[i] is not None for grads in gradients.values())]
        self.params = [params[i] for i in self.reached]
        self._gradients = gradients
        self._own_losses = losses
        self._mean = mean

    def __contains__(self, name: str) -> bool:
        return name in self._gradients

    def gradient(self, name: str) -> list[Tensor]:
        """Return the gradient with a name for each of :attr:`params`; zero where backward did not reach one.

        Args:
            name: Name of the gradient: ``"step"``, ``"ascent 0"`` or ``"descent 1"``, for example. Under a name that
                is not there every gradient is zero.
        """
        own = self._gradients.get(name)
        held = [None if own is None else own[i] for i in self.reached]
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.params, held, strict=True)]

    @cached_property
    def losses(self) -> Mapping[str, Tensor]:
        """Weighted loss by name, shape ``()`` each, float64; ranks exchange their losses at the first access."""
        return self._mean(self._own_losses)


@dataclass(frozen=True)
class Combined:
    """Result of combining the gradients of a step's passes.

    Args:
        gradient: Gradient for the base optimizer, one tensor for each of the parts' ``params``, of its shape; ``None``
            leaves the step's gradient as it is.
        memory: Tensors that the method keeps for each parameter, of its shape, by name, once the step has been made.
    """

    gradient: Sequence[Tensor] | None = None
    memory: Mapping[str, Memory] = field(default_factory=dict)


class Gradients:
    """Gradients of one step, while its passes are made.

    Args:
        reached: The optimizer's parameters, and the other parameters of the model. A gradient that earlier passes left
            on the optimizer's parameters is dropped; gradients of the others are kept for :meth:`close`.
        accumulate: Whether the step's gradient is added to the gradients that the optimizer's parameters have.
        waiting: Whether those gradients come from passes that wait for the same step.

    Raises:
        PassError: If the optimizer's parameters have a gradient that no pass made, and ``accumulate`` is off.
    """

    def __init__(self, reached: Reached, *, accumulate: bool = False, waiting: bool = False) -> None:
        own, guests = reached.own, reached.guests
        if not accumulate:
            _refuse_gradients_of_others(own)
        self._params = [*own, *guests]
        self.known = reached.known
        held = self._params if accumulate else guests
        self._held = {p: p.grad for p in held if p.grad is not None and (waiting or not is_left(p.grad))}
        self._own, self._guests = len(own), guests
        self._theirs = {p: p.grad for p in guests if owner_of(p) is not None}
        self._aside: dict[str, list[Tensor | None]] = {}
        self._collected = STEP
        for p in self._params:
            p.grad = None

    def collect(self, name: str) -> None:
        """Make the next backward accumulate into the gradient with this name."""
        if name == self._collected:
            return
        self._aside[self._collected] = [_own(p.grad) for p in self._params]
        for p, grad in zip(self._params, self._aside.pop(name, [None] * len(self._params)), strict=True):
            p.grad = grad
        self._collected = name

    def drop(self, name: str) -> None:
        """Discard a gradient that is set aside."""
        self._aside.pop(name, None)

    def merge(self, name: str, *, loss_scale: float) -> dict[Tensor, Tensor]:
        """Add a gradient to the step's, and return it, divided by the loss scale, in memory of its own."""
        self.collect(STEP)
        merged = {}
        for p, grad in zip(self._params, self._aside.pop(name, ()), strict=False):
            if grad is None:
                continue
            if p.grad is None:
                p.grad = grad.clone()
            elif p.grad.is_sparse:
                p.grad = p.grad + grad
            else:
                p.grad.add_(grad)
            merged[p] = grad / loss_scale if loss_scale != 1 else grad
        return merged

    def parts(self, losses: Mapping[str, Tensor], mean: MeanOverRanks, *, loss_scale: float) -> Parts:
        """Return every gradient that is still kept, by its name."""
        self.collect(STEP)
        return Parts(self._params, {STEP: [p.grad for p in self._params], **self._aside}, losses, mean, loss_scale)

    def replace(self, reached: Sequence[int], gradient: Sequence[Tensor]) -> None:
        """Replace the step's gradient, for the parameters with these indices, by a combined gradient."""
        for i, grad in zip(reached, gradient, strict=True):
            self._params[i].grad = grad

    def close(self, *, keep: bool) -> None:
        """Leave the step's gradient in ``.grad``, plus the gradient from before if it was kept.

        A parameter whose gradient waits for a step of another optimizer keeps that gradient.
        """
        self.collect(STEP)
        self._aside.clear()
        if keep:
            for p in self._guests:
                gained, p.grad = p.grad, self._held.pop(p, None)
                if gained is not None:
                    add(p, gained)
            for p, held in self._held.items():
                p.grad = held if p.grad is None else held + p.grad
            for p in self._params[: self._own]:
                if p.grad is not None:
                    wait(p.grad)
        else:
            for p in self._params:
                p.grad = self._held.get(p)
        for p, grad in self._theirs.items():
            p.grad = grad


def _refuse_gradients_of_others(own: Sequence[Tensor]) -> None:
    unknown = [p for p in own if (grad := p.grad) is not None and not is_left(grad)]
    if not unknown:
        return
    others = [p.grad for p in take_over(unknown) if p.grad is not None and not waits(p.grad)]
    # Set to zero, they have been cleared, too.
    if others and not bool(global_norm(others) == 0):
        raise PassError(
            "parameters of the optimizer have a gradient that is not of its passes, for example from a backward() "
            "of your own, and the passes would drop it: add to it by passes(targets, accumulate=True), or clear it by "
            "zero_grad()."
        )


def _own(grad: Tensor | None) -> Tensor | None:
    """Return the gradient, copied if it lies in a ``DistributedDataParallel`` bucket: the next backward refills it."""
    shared = grad is not None and not grad.is_sparse and grad.untyped_storage().nbytes() > grad.nbytes
    return grad.clone() if grad is not None and shared else grad
