"""ImbSAM: only the tail classes get a flat minimum."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Unpack

import torch
from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import PATTERNS, SharpnessAware
from imbsam.optim._targets import row_shares
from imbsam.optim._terms import Term, checked_tail, divided, mean_weights
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
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``, as :meth:`ClassPriors.tail` returns it.
        rho: Neighbourhood size, finite, at least 0.
        tail_weight: k, finite, above 0; 1 is the paper's formula.
        ascent: Direction of the perturbation; by default the gradient, undamped.
        common: Further options (``model``, ``batch_statistics``, ``rows``, ``nonfinite`` and others), see
            :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range, or ``tail`` is not a mask over classes.

    Example:
        >>> priors = ClassPriors.from_targets(train_targets)  # doctest: +SKIP
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)  # doctest: +SKIP
        >>> optimizer = ImbSAM(base, priors.tail(fewer_than=20), rho=0.05, model=model)  # doctest: +SKIP
    """

    class_aware = True
    memberships = True

    def __init__(
        self,
        base: Base,
        tail: Tensor,
        *,
        rho: float = 0.05,
        tail_weight: float = 1.0,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("tail_weight", tail_weight, above=0)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.tail = checked_tail(tail)
        self.tail_weight = tail_weight

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the head's mean loss unperturbed, and the tail's perturbed along its own gradient."""
        in_tail = row_shares(targets, self.tail)
        if not bool(in_tail.any()):
            return self._of_counts(targets.shape[0], 0, self.tail_weight)
        return _terms(in_tail, self.tail_weight)

    def ordered_terms(self, targets: Tensor) -> tuple[Sequence[Term], Tensor | None]:
        """Return the terms with the tail's rows first: their number alone then decides."""
        if targets.ndim != 1 or type(self).terms is not ImbSAM.terms:
            return self.terms(targets), None
        in_tail = row_shares(targets, self.tail)
        tail_rows = int(in_tail.count_nonzero())
        terms = self._of_counts(len(targets), tail_rows, self.tail_weight)
        return terms, in_tail.sort(descending=True, stable=True).indices if tail_rows else None

    def _bind(self) -> None:
        super()._bind()
        self._of_counts = lru_cache(PATTERNS)(_of_counts)


def _of_counts(rows: int, tail_rows: int, tail_weight: float) -> list[Term]:
    return _terms(torch.arange(rows) < tail_rows, tail_weight)


def _terms(in_tail: Tensor, tail_weight: float) -> list[Term]:
    head, tail = divided(mean_weights(in_tail), in_tail)
    if tail_weight != 1:
        _, tail = divided(mean_weights(in_tail, tail_weight), in_tail)
    return [Term(head), Term(tail, ascent=tail)]
