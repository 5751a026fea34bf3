"""What is looked at before a step is applied: numbers that are not finite, and gradients that somebody has cleared."""

from collections.abc import Mapping

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError, PassError
from imbsam.optim._buffers import Buffers
from imbsam.optim._ranks import Ranks
from imbsam.optim._step import Step
from imbsam.optim.ascent import global_norm

CLEARED = (
    "the gradient of the passes was cleared before step(), as by model.zero_grad(): clear gradients after step(), or "
    "not at all, for the next passes drop it."
)


def was_skipped(step: Step) -> bool:
    """Whether a ``GradScaler`` is taken to have left the step out: a gradient is NaN or infinite."""
    grads = step.grads()
    norms = [*step.norms, global_norm(grads)] if grads else step.norms
    return not all(bool(norm.isfinite()) for norm in norms)


def refuse_cleared(step: Step) -> None:
    """Refuse a step whose gradients somebody took away since the passes.

    Raises:
        PassError: If there is none left.
    """
    if step.left is not None and not step.grads():
        raise PassError(CLEARED)


def refuse_unsound(step: Step, ranks: Ranks, buffers: Buffers) -> None:
    """Refuse a step that would poison the weights, and undo what it did to the buffers.

    Raises:
        NonFiniteError: If a loss or gradient is NaN or infinite, on any rank.
        PassError: If the gradient was set to zero since the passes.
    """
    grads = step.grads()
    found: Mapping[str, list[Tensor]] = {
        "the loss of": step.all_losses,
        "an ascent gradient of": step.norms,
        "the gradient of": [global_norm(grads)] if grads else [],
    }
    # Fetched together: an accelerator waits once.
    values = [v.to(step.loss.device, torch.float64, non_blocking=True) for part in found.values() for v in part]
    together = torch.stack(values)
    if not ranks.anywhere(~together.isfinite().all()):
        _refuse_zeroed(step, together)
        return
    buffers.undo()
    mine = (name for name, part in found.items() if not all(bool(v.isfinite()) for v in part))
    raise NonFiniteError(
        f"{next(mine, 'a loss or gradient of another rank in')} this step is NaN or infinite; weights and "
        "statistics are those before it. Look for NaN in the inputs, lower the learning rate or rho, or skip the "
        "batch."
    )


def _refuse_zeroed(step: Step, values: Tensor) -> None:
    # Changed since the passes, as clipping does, too; and zero, though the direction of an ascent was not.
    p, version = step.left or (None, 0)
    changed = p is not None and p.grad is not None and p.grad._version != version
    if changed and step.norms and bool((values[-1] == 0) & (values[-2] != 0)):
        raise PassError(CLEARED)
