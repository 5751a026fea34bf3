"""The weights of a step: gradients set aside by reference, weights perturbed and brought back bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imbsam.errors import PassError
from imbsam.optim._plan import STEP
from imbsam.optim._shards import gathered_again, local
from imbsam.optim._terms import Term
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope

Gradients = Sequence[Tensor | None]
"""One gradient for each parameter; ``None`` where backward did not reach it."""


@dataclass(frozen=True)
class Parts:
    """The gradients of one step before they are combined.

    Args:
        params: Every parameter that may have a gradient, of any shapes.
        slots: Gradients by slot, aligned with ``params`` and of their shapes.
    """

    params: Sequence[Tensor]
    slots: Mapping[int, Gradients]

    def gradient(self, slot: int) -> list[Tensor]:
        """The gradient of a slot; zero where backward did not reach a parameter that another slot has reached.

        Args:
            slot: Place of the term whose gradient was kept apart.

        Returns:
            A gradient for each of :attr:`reached`.
        """
        own = self.slots.get(slot, [None] * len(self.params))
        return [torch.zeros_like(self.params[i]) if own[i] is None else own[i] for i in self.reached]  # type: ignore[misc]

    @property
    def reached(self) -> list[int]:
        """Indices of the parameters that have a gradient in some slot."""
        return [i for i in range(len(self.params)) if any(grads[i] is not None for grads in self.slots.values())]

    def filled(self, gradient: Sequence[Tensor]) -> Gradients:
        """A gradient over the reached parameters, aligned with ``params`` again.

        Args:
            gradient: One for each of :attr:`reached`, of the parameter's shape.

        Returns:
            One for each parameter; ``None`` for those that were not reached.
        """
        by_index = dict(zip(self.reached, gradient, strict=True))
        return [by_index.get(i) for i in range(len(self.params))]


class Weights:
    """The parameters of an optimizer during one step.

    Args:
        param_groups: The optimizer's groups; only their parameters are perturbed.
        others: Parameters of the model by name; those in no group are not perturbed, but backward reaches them, so
            their gradients are kept apart in the same way.
        saved: Copies of the parameters from earlier steps, by parameter, reused.
        model: Refuses ``state_dict`` while its weights are perturbed.
    """

    def __init__(
        self,
        param_groups: Sequence[dict[str, object]],
        others: Mapping[str, Tensor],
        saved: dict[Tensor, Tensor],
        model: nn.Module | None,
    ) -> None:
        self._groups = param_groups
        own = [p for group in param_groups for p in _params(group)]
        known = set(own)
        self._all = own + [p for p in others.values() if p not in known]
        self._known_names = {p: name for name, p in others.items()}
        self._slots: dict[int, list[Tensor | None]] = {}
        self._active = STEP
        self._saved = saved
        self._model = model
        self._moved: list[Tensor] = []
        for p in self._all:
            p.grad = None

    @property
    def perturbed(self) -> bool:
        """Whether the parameters differ from the step's weights."""
        return bool(self._moved)

    def collect(self, slot: int) -> None:
        """Let the next backward accumulate into the gradient of ``slot``."""
        if slot == self._active:
            return
        self._slots[self._active] = [_own(p.grad) for p in self._all]
        for p, grad in zip(self._all, self._slots.pop(slot, [None] * len(self._all)), strict=True):
            p.grad = grad
        self._active = slot

    def close(self, *, keep_gradient: bool) -> None:
        """Leave the step's gradient in ``.grad``, or none; forget every other."""
        self.collect(STEP)
        self._slots.clear()
        if not keep_gradient:
            for p in self._all:
                p.grad = None

    @torch.no_grad()
    def climb(
        self, slot: int, term: Term, ascent: Ascent, memory: Memory, *, fresh: bool, keep: bool, loss_scale: float = 1.0
    ) -> Climbed:
        """Perturb the weights along the gradient of ``slot``.

        Args:
            slot: Where the ascent gradient is.
            term: Whose perturbation it is.
            ascent: The rule.
            memory: What the rule kept.
            fresh: Whether the rule looks at that gradient.
            keep: Whether the gradient is needed later; otherwise it is overwritten and forgotten.
            loss_scale: What the gradient is too large by.

        Returns:
            What the rule did; nothing where no parameter has a gradient.
        """
        if fresh:
            self.collect(slot)
        slopes = [self._slope(group, term, fresh, keep, loss_scale) for group in self._groups]
        slopes = [slope for slope in slopes if slope.params]
        climbed = Climbed()
        if slopes:
            self._save([p for slope in slopes for p in slope.params])
            climbed = ascent.climb(slopes, memory)
            # Autocast keeps the weights it has cast, and the root of a sharded model those it has gathered; the next
            # forward needs the perturbed ones.
            torch.clear_autocast_cache()
            gathered_again(self._model)
        self.collect(STEP)
        if not keep:
            self._slots.pop(slot, None)
        return climbed

    def _slope(self, group: dict[str, object], term: Term, fresh: bool, keep: bool, loss_scale: float) -> Slope:
        named = [
            (p, name)
            for p, name in zip(_params(group), self._names(group), strict=True)
            if (p.grad is not None if fresh else p.requires_grad)
        ]
        params = [p for p, _ in named]
        grads = [p.grad for p in params if p.grad is not None] if fresh else []
        if loss_scale != 1:
            grads = [g / loss_scale for g in grads]
        elif keep:
            grads = [g.clone() for g in grads]
        rho = float(group[term.radius]) * term.factor  # type: ignore[arg-type]
        return Slope(rho, params, grads, [name for _, name in named])

    def _names(self, group: dict[str, object]) -> Sequence[str | None]:
        named: Sequence[str] | None = group.get("param_names")  # type: ignore[assignment]
        return named if named is not None else [self._known_names.get(p) for p in _params(group)]

    def merge(self, slot: int, *, loss_scale: float) -> dict[Tensor, Tensor]:
        """Add the gradient of a slot to the step's, and give it.

        Args:
            slot: Where the gradient is.
            loss_scale: What it is too large by.

        Returns:
            The gradient by parameter, which the step's does not share memory with.
        """
        self.collect(STEP)
        merged = {}
        for p, grad in zip(self._all, self._slots.pop(slot, ()), strict=False):
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

    def parts(self) -> Parts:
        """Every gradient that is still kept, by its slot."""
        self.collect(STEP)
        return Parts(self._all, {STEP: [p.grad for p in self._all], **self._slots})

    def replace(self, gradient: Sequence[Tensor | None]) -> None:
        """Put a combined gradient in the place of the step's."""
        for p, grad in zip(self._all, gradient, strict=True):
            p.grad = grad

    @torch.no_grad()
    def restore(self) -> None:
        """Bring the weights back.

        Copied back, not subtracted: w + e - e differs from w in the last bit, and bf16 loses all of it.
        """
        if self._moved:
            torch._foreach_copy_([local(p) for p in self._moved], [self._saved[p] for p in self._moved])
            torch.clear_autocast_cache()
            gathered_again(self._model)
            self._moved = []
            self._guard.remove()

    def _save(self, params: list[Tensor]) -> None:
        own = [local(p) for p in params]
        fresh = [(p, kept) for p, kept in zip(params, own, strict=True) if not _fits(self._saved.get(p), kept)]
        self._saved.update((p, torch.empty_like(kept)) for p, kept in fresh)
        torch._foreach_copy_([self._saved[p] for p in params], own)
        self._guard = _StateDictGuard(self._model)
        self._moved = params


def _params(group: dict[str, object]) -> list[Tensor]:
    return group["params"]  # type: ignore[return-value]


def _own(grad: Tensor | None) -> Tensor | None:
    """The gradient, copied where it lies in a bucket of ``DistributedDataParallel``: the next backward refills it."""
    shared = grad is not None and not grad.is_sparse and grad.untyped_storage().nbytes() > grad.nbytes
    return grad.clone() if grad is not None and shared else grad


def _fits(kept: Tensor | None, p: Tensor) -> bool:
    return kept is not None and (kept.device, kept.dtype, kept.shape) == (p.device, p.dtype, p.shape)


class _StateDictGuard:
    """While it stands, the model's ``state_dict`` raises: a checkpoint can never hold perturbed weights."""

    def __init__(self, model: nn.Module | None) -> None:
        self._handles = [m.register_state_dict_pre_hook(_refuse) for m in _unwrapped(model)]  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _unwrapped(model: nn.Module | None) -> list[nn.Module]:
    """The model, and the one it wraps, as ``DistributedDataParallel`` and ``torch.compile`` do: either may be saved."""
    if model is None:
        return []
    children = list(model.children())
    return [model, *(_unwrapped(children[0]) if len(children) == 1 else [])]


def _refuse(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    raise PassError("the model's weights are perturbed: take its state_dict after the passes, not inside them.")
