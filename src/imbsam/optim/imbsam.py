"""ImbSAM: only the tail classes get a flat minimum."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim._plan import BatchStatistics
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term
from imbsam.optim.ascent import Ascent


class ImbSAM(SharpnessAware):
    """Imbalanced sharpness-aware minimisation (Zhou et al., ICCV 2023).

    ``g = grad L_head(w) + k * grad L_tail(w + e)`` with ``e = rho * grad L_tail(w) / |grad L_tail(w)|``, where both
    losses are divided by the size of the whole batch and ``k`` is ``tail_weight``. A batch without a tail row makes
    the base optimizer's step, bit for bit; with every row in the tail it is SAM's. Each head row is forwarded once and
    each tail row twice where the rows do not see each other (no BatchNorm).

    The published code doubles the tail's loss without saying so and forwards the whole batch twice:
    ``tail_weight=2.0, batch_statistics="batch"`` reproduces its step.

    Args:
        base: Any ``torch.optim.Optimizer`` instance; it makes the step.
        tail: Marks the tail classes, bool, shape ``(C,)``, as from :meth:`ClassPriors.tail`.
        rho: Neighbourhood size, finite, at least 0.
        model: The model. Needed where it has BatchNorm or is wrapped for distributed training.
        tail_weight: k, finite, above 0; 1 is the paper's formula.
        batch_statistics: See :class:`SharpnessAware`.
        context_rows: See :class:`SharpnessAware`.
        ascent: Where the perturbation points; by default the gradient, undamped.

    Raises:
        OptionError: If an option is out of range, or ``tail`` is not a mask over classes.

    Example:
        >>> priors = ClassPriors.from_targets(train_targets)  # doctest: +SKIP
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)  # doctest: +SKIP
        >>> optimizer = ImbSAM(base, priors.tail(fewer_than=20), rho=0.05, model=model)  # doctest: +SKIP
    """

    class_aware = True

    def __init__(
        self,
        base: Optimizer,
        tail: Tensor,
        *,
        rho: float = 0.05,
        model: nn.Module | None = None,
        tail_weight: float = 1.0,
        batch_statistics: BatchStatistics = "context",
        context_rows: int = 8,
        ascent: Ascent | None = None,
    ) -> None:
        if not isinstance(tail, Tensor) or tail.dtype != torch.bool or tail.ndim != 1 or len(tail) == 0:
            got = f"{tail.dtype} of shape {tuple(tail.shape)}" if isinstance(tail, Tensor) else repr(tail)
            raise OptionError(
                f"tail must mark the tail classes, a bool tensor of shape (C,), as priors.tail() gives; got {got}."
            )
        if not (math.isfinite(tail_weight) and tail_weight > 0):
            raise OptionError(f"tail_weight must be finite and above 0; got {tail_weight}.")
        super().__init__(
            base,
            rho=rho,
            model=model,
            batch_statistics=batch_statistics,
            context_rows=context_rows,
            ascent=ascent,
        )
        self.tail = tail.detach().cpu().clone()
        self.tail_weight = tail_weight

    def terms(self, targets: Tensor) -> list[Term]:
        """Head and tail: the head's mean loss as it is, the tail's perturbed along its own gradient."""
        classes = len(self.tail)
        lowest, highest = int(targets.min()), int(targets.max())
        if lowest < 0 or highest >= classes:
            outside = lowest if lowest < 0 else highest
            raise OptionError(f"target {outside} is outside the {classes} classes of the tail mask (0..{classes - 1}).")
        in_tail = self.tail[targets].double()
        tail = in_tail * (self.tail_weight / len(targets))
        return [Term((1 - in_tail) / len(targets)), Term(tail, ascent=tail)]

    def _method_state(self) -> dict[str, object]:
        return {"tail": self.tail, "tail_weight": self.tail_weight}
