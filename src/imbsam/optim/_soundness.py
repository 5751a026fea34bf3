"""Checks before a step is applied: for numbers that are not finite, and for gradients that were cleared."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError, PassError
from imbsam.optim._buffers import Buffers
from imbsam.optim._ranks import Ranks
from imbsam.optim._step import Step
from imbsam.optim.ascent import global_norm, norm_of_one_kind

CLEARED = (
    "the gradient of the passes was cleared before step(), for example by model.zero_grad(): clear gradients after "
    "step(), or "
    "not at all, since the next passes drop them."
)


def was_skipped(step: Step) -> bool:
    """Return whether a ``GradScaler`` is taken to have skipped the step: a gradient is NaN or infinite."""
    grads = step.grads()
    norms = [*step.norms, global_norm(grads)] if grads else step.norms
    return not all(bool(norm.isfinite()) for norm in norms)


def refuse_cleared(step: Step, grads: Sequence[Tensor]) -> None:
    """Refuse a step whose gradients were set to None since the passes.

    Raises:
        PassError: If no gradient is left.
    """
    if step.left is not None and not grads:
        raise PassError(CLEARED)


def refuse_unsound(step: Step, grads: Sequence[Tensor], ranks: Ranks, buffers: Buffers) -> None:
    """Refuse a step with NaN or infinity, which would spoil the weights, and undo its changes to the buffers.

    Raises:
        NonFiniteError: If a loss or gradient is NaN or infinite, on any rank.
        PassError: If the gradient was set to zero since the passes.
    """
    if ranks.size == 1 and _have_finite_norm([*grads, *step.norms, *step.loss_parts]):
        _refuse_zeroed(step, grads)
        return
    losses, norms = step.all_losses, step.norms
    values = _fetched([*losses, *norms, *([global_norm(grads)] if grads else [])])
    if not ranks.anywhere(not all(map(math.isfinite, values))):
        _refuse_zeroed(step, grads)
        return
    buffers.undo()
    names = ["the loss of"] * len(losses) + ["an ascent gradient of"] * len(norms) + ["the gradient of"]
    mine = (name for name, value in zip(names, values, strict=False) if not math.isfinite(value))
    raise NonFiniteError(
        f"{next(mine, 'a loss or gradient of another rank in')} this step is NaN or infinite; weights and "
        "statistics are unchanged. Look for NaN in the inputs, lower the learning rate or rho, or skip the "
        "batch."
    )


def _have_finite_norm(tensors: Sequence[Tensor]) -> bool:
    """Return whether tensors of one kind have a finite norm together: then every number is finite, and so is its sum.

    Without one the numbers may still be finite, and their squares not.
    """
    norm = norm_of_one_kind(tensors) if tensors else None
    return norm is not None and math.isfinite(norm.item())


def _fetched(values: Sequence[Tensor]) -> list[float]:
    """Return scalars as numbers, all at once, so that an accelerator waits only once."""
    if all(v.is_cpu for v in values):
        return [v.item() for v in values]
    home = values[0].device
    together = torch.stack([v.to(home, torch.float64, non_blocking=True) for v in values])
    numbers: list[float] = together.tolist()
    return numbers


def _refuse_zeroed(step: Step, grads: Sequence[Tensor]) -> None:
    # Changed since the passes, as clipping does, too; and zero, though the direction of an ascent was not.
    p, version = step.left or (None, 0)
    changed = p is not None and p.grad is not None and p.grad._version != version
    if changed and step.norms and bool(global_norm(grads) == 0) and bool(step.norms[-1] != 0):
        raise PassError(CLEARED)
