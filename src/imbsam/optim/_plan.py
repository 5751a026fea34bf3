"""The plan of a step: which rows to forward at which weights, so that no row is forwarded for nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from imbsam.optim._terms import Term

STEP = -1
"""The slot of the gradient that the base optimizer will see; slot ``k >= 0`` holds the ascent gradient of term k."""

BatchStatistics = Literal["batch", "context"]


@dataclass(frozen=True)
class Use:
    """One backward of a pass: the weighted sum of its losses, added to the gradient in ``slot``."""

    weights: Tensor
    slot: int


@dataclass(frozen=True)
class PlannedPass:
    """One forward, and the backwards that share it.

    Args:
        rows: Rows to forward, shape ``(R,)``, ascending; ``None`` stands for the whole batch.
        uses: At least one; their weights are aligned with ``rows``.
        term: The term whose perturbation is in force; ``None`` at the weights themselves.
        counted: Which of these rows enter the batch's mean loss, shape ``(R,)``, bool: each row once, at ``w``.
            ``None`` where none does.
    """

    rows: Tensor | None
    uses: tuple[Use, ...]
    term: int | None = None
    counted: Tensor | None = None


@dataclass(frozen=True)
class Need:
    """What the whole step has to compute, the same on every rank.

    Args:
        perturbed: For each term, whether any rank has a row in its direction; a direction of no row is zero.
        present: For each term, whether any rank has a row in its descent.
    """

    perturbed: tuple[bool, ...]
    present: tuple[bool, ...]


def plan(
    terms: Sequence[Term],
    need: Need,
    *,
    coupled: bool,
    statistics: BatchStatistics,
    context_rows: int,
    share: bool = True,
) -> list[PlannedPass]:
    """Lay out the passes of one step.

    Rows that do not see each other (no BatchNorm in training mode) are forwarded only where their weight is not 0.
    Otherwise the first pass is the whole batch at the unperturbed weights, and the only one that may move running
    statistics; a later pass is the whole batch (``"batch"``) or its own rows and a few others (``"context"``).

    Args:
        terms: The method's terms for this batch.
        need: Which parts exist on any rank; a rank without rows for one still makes its passes.
        coupled: Whether a row's loss depends on the other rows of its pass.
        statistics: The policy where it does.
        context_rows: How many other rows normalise a pass under ``"context"``.
        share: Whether several backwards may share one forward (not under DDP, which syncs the first alone).

    Returns:
        The passes in order; every ascent stands before its descent.
    """
    base, need_base = _unperturbed(terms, need)
    layout = _Layout(base, coupled, statistics, context_rows, share)
    active = [k for k, needed in enumerate(need.perturbed) if needed]
    ascents = {k: term.ascent for k in active if (term := terms[k]).ascent is not None}
    first = layout.shared_with_base(ascents, need_base)
    early = [Use(base, STEP)] if need_base and (coupled or first) else []
    early += [Use(ascents[k], k) for k in first]
    passes = layout.opening(early) if early else []
    for k in active:
        if k not in first:
            passes.append(layout.own_pass(Use(ascents[k], k)))
        passes.append(layout.own_pass(Use(terms[k].descent, STEP), term=k))
    if need_base and not (coupled or first):
        passes.append(layout.own_pass(Use(base, STEP)))
    return _count_each_row_once(passes, len(base))


def _unperturbed(terms: Sequence[Term], need: Need) -> tuple[Tensor, bool]:
    """Sum the descents of the terms at ``w`` itself, shape ``(B,)``, and tell whether any rank has a row there."""
    still = [k for k, perturbed in enumerate(need.perturbed) if not perturbed]
    total = torch.zeros_like(terms[0].descent)
    for k in still:
        total += terms[k].descent
    return total, any(need.present[k] for k in still)


@dataclass(frozen=True)
class _Layout:
    base: Tensor
    coupled: bool
    statistics: BatchStatistics
    context_rows: int
    share: bool

    def shared_with_base(self, ascents: dict[int, Tensor], need_base: bool) -> list[int]:
        """Terms whose direction comes from the same forward as the unperturbed loss."""
        if not self.share:
            return [] if need_base or not self.coupled else list(ascents)[:1]
        if not self.coupled:
            return [k for k, ascent in ascents.items() if bool((ascent.bool() & self.base.bool()).any())]
        whole = [k for k, ascent in ascents.items() if self.statistics == "batch" or self._rows(ascent) is None]
        if whole or need_base or not ascents:
            return whole
        return [max(ascents, key=lambda k: int(ascents[k].count_nonzero()))]

    def opening(self, uses: list[Use]) -> list[PlannedPass]:
        """The pass at the unperturbed weights that several uses share; one each where they may not."""
        groups = [uses] if self.share else [[use] for use in uses]
        passes = []
        for index, group in enumerate(groups):
            touched = torch.stack([use.weights.bool() for use in group]).any(0)
            rows = None if self.coupled and index == 0 else self._rows(touched)
            passes.append(_aligned(rows, group))
        return passes

    def own_pass(self, use: Use, *, term: int | None = None) -> PlannedPass:
        return _aligned(self._rows(use.weights), [use], term=term)

    def _rows(self, weights: Tensor) -> Tensor | None:
        """The rows with a weight, and under ``"context"`` a few evenly spaced others; ``None`` where that is all."""
        if self.coupled and self.statistics == "batch":
            return None
        chosen = weights.bool()
        extra = self.context_rows if self.coupled else int(not chosen.any())
        others = (~chosen).nonzero().squeeze(1)
        if extra >= len(others):
            return None
        if extra:
            chosen = chosen.clone()
            chosen[others[torch.linspace(0, len(others) - 1, extra).round().long()]] = True
        return chosen.nonzero().squeeze(1)


def _aligned(rows: Tensor | None, uses: Sequence[Use], *, term: int | None = None) -> PlannedPass:
    if rows is not None:
        uses = [replace(use, weights=use.weights[rows]) for use in uses]
    return PlannedPass(rows, tuple(uses), term)


def _count_each_row_once(passes: Sequence[PlannedPass], size: int) -> list[PlannedPass]:
    unseen = torch.ones(size, dtype=torch.bool)
    counted = []
    for planned in passes:
        if planned.term is None:
            rows = slice(None) if planned.rows is None else planned.rows
            fresh = unseen[rows].clone()
            planned = replace(planned, counted=fresh if bool(fresh.any()) else None)
            unseen[rows] = False
        counted.append(planned)
    return counted
