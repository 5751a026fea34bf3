"""The weights of a step: gradients set aside by reference, weights perturbed and brought back bit for bit."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from imbsam.errors import PassError
from imbsam.optim._plan import STEP
from imbsam.optim.ascent import Ascent, Slope


class Weights:
    """The parameters of an optimizer during one step.

    Args:
        param_groups: The optimizer's groups; only their parameters are perturbed.
        others: Further parameters that backward reaches; their gradients are kept apart in the same way.
        saved: Copies of the parameters from earlier steps, by parameter, reused.
        model: Refuses ``state_dict`` while its weights are perturbed.
    """

    def __init__(
        self,
        param_groups: Sequence[dict[str, object]],
        others: Iterable[Tensor],
        saved: dict[Tensor, Tensor],
        model: nn.Module | None,
    ) -> None:
        self._groups = param_groups
        own = [p for group in param_groups for p in _params(group)]
        known = set(own)
        self._all = own + [p for p in others if p not in known]
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
    def climb(self, slot: int, ascent: Ascent) -> Tensor | None:
        """Perturb the weights along the gradient of ``slot``, and forget that gradient.

        Returns:
            The gradient's norm; ``None`` where no parameter has a gradient.
        """
        self.collect(slot)
        slopes = []
        for group in self._groups:
            params = [p for p in _params(group) if p.grad is not None]
            if params:
                slopes.append(Slope(float(group["rho"]), params, [p.grad for p in params]))  # type: ignore[arg-type,misc]
        norm = None
        if slopes:
            self._save([p for slope in slopes for p in slope.params])
            norm = ascent.climb(slopes)
            # Autocast keeps the weights it has cast; the next forward must cast the perturbed ones.
            torch.clear_autocast_cache()
        self.collect(STEP)
        self._slots.pop(slot, None)
        return norm

    @torch.no_grad()
    def restore(self) -> None:
        """Bring the weights back.

        Copied back, not subtracted: w + e - e differs from w in the last bit, and bf16 loses all of it.
        """
        if self._moved:
            torch._foreach_copy_(self._moved, [self._saved[p] for p in self._moved])
            torch.clear_autocast_cache()
            self._moved = []
            self._guard.remove()

    def _save(self, params: list[Tensor]) -> None:
        fresh = [p for p in params if p not in self._saved or not _fits(self._saved[p], p)]
        self._saved.update((p, torch.empty_like(p)) for p in fresh)
        torch._foreach_copy_([self._saved[p] for p in params], params)
        self._guard = _StateDictGuard(self._model)
        self._moved = params


def _params(group: dict[str, object]) -> list[Tensor]:
    return group["params"]  # type: ignore[return-value]


def _own(grad: Tensor | None) -> Tensor | None:
    """The gradient, copied where it lies in a bucket of ``DistributedDataParallel``: the next backward refills it."""
    shared = grad is not None and not grad.is_sparse and grad.untyped_storage().nbytes() > grad.nbytes
    return grad.clone() if grad is not None and shared else grad


def _fits(kept: Tensor, p: Tensor) -> bool:
    return (kept.device, kept.dtype, kept.shape) == (p.device, p.dtype, p.shape)


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
