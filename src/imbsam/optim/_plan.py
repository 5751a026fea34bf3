"""Plan of a step: the rows to forward at each set of weights, so that no row is forwarded for nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from imbsam.optim._terms import Selection, Term, weighed

STEP = "step"
"""The gradient that the base optimizer will see."""

UNUSED = "unused"
"""Name of a gradient that nothing uses: a closure backpropagates even where only its forward is needed."""


def ascent_of(term: int) -> str:
    """Return the name of the gradient that term number ``term`` climbs along."""
    return f"ascent {term}"


def is_ascent(name: str) -> bool:
    """Return whether a gradient is one that a term climbs along."""
    return name.startswith("ascent ")


def descent_of(term: int) -> str:
    """Return the name of the gradient of term number ``term`` at its perturbed weights, where it is kept apart."""
    return f"descent {term}"


BatchStatistics = Literal["batch", "context"]


@dataclass(frozen=True)
class Use:
    """One backward of a pass: the weighted sum of its losses, added to the gradient named ``gradient``."""

    weights: Tensor
    gradient: str
    even: float | None = None
    """Weight of every row, if all have the same."""


@dataclass(frozen=True)
class PlannedPass:
    """One forward, and the backwards that share it.

    Args:
        rows: Rows to forward, shape ``(R,)``, those with a weight first; ``None`` stands for the whole batch.
        uses: Backwards of the pass, with weights aligned with ``rows``. Without any, the pass only computes losses or
            moves
        running statistics.
        term: The term whose perturbation is in force; ``None`` at the weights themselves.
        counted: Weight of these rows in the batch's mean loss, shape ``(R,)``: each row counts once, at ``w`` where it
            is forwarded there. ``None`` where none does.
        evenly: Weight of each row in the mean loss, where all have the same.
        own: Number of rows, counted from the first, that stand for themselves; the other rows stand for all rows left
            out, and enter BatchNorm's statistics accordingly. ``None`` where all rows count alike.
        select: Turns the losses at ``w`` and at ``w + e`` into the weights of the following pass.
    """

    rows: Tensor | None
    uses: tuple[Use, ...]
    term: int | None = None
    counted: Tensor | None = None
    evenly: float | None = None
    own: int | None = None
    select: "Callable[[Tensor, Tensor], PlannedPass] | None" = None

    def row_groups(self, span: slice, batch_size: int) -> list[tuple[int, float]] | None:
        """Number and share of the batch of each group of consecutive rows in BatchNorm's statistics.

        ``None`` where all rows count alike.
        """
        if self.own is None or self.rows is None:
            return None
        each = (batch_size - self.own) / max(1, len(self.rows) - self.own)
        own = min(span.stop, self.own) - min(span.start, self.own)
        others = span.stop - span.start - own
        total = own + others * each
        return [(number, weight / total) for number, weight in ((own, float(own)), (others, others * each)) if number]


@dataclass(frozen=True)
class Need:
    """Parts of each term that any rank needs: whether some rank has a row in the ascent, and in the descent."""

    perturbed: tuple[bool, ...]
    present: tuple[bool, ...]


def plan(
    terms: Sequence[Term],
    need: Need,
    *,
    coupled: bool,
    statistics: BatchStatistics,
    context_rows: int,
    row_multiple: int = 1,
    share: bool = True,
    fresh: Sequence[bool] | None = None,
    learns: bool = False,
) -> list[PlannedPass]:
    """Lay out the passes of one step.

    Rows that do not see each other (no BatchNorm in training mode) are forwarded only where their weight is not 0.
    Otherwise the first pass is the whole batch at the unperturbed weights, and the only one that may move running
    statistics; a later pass is the whole batch (``"batch"``) or its own rows and a few others (``"context"``).

    Args:
        terms: The method's terms for this batch.
        need: Parts that exist on any rank; a rank without rows for a part still makes its passes.
        coupled: Whether a row's loss depends on the other rows of its pass.
        statistics: Policy for BatchNorm where it does.
        context_rows: Number of other rows that normalise a pass under ``"context"``.
        row_multiple: Round the rows of a pass up to a multiple of this, by rows of weight 0.
        share: Whether several backwards may share one forward (not under DDP, which syncs the first alone).
        fresh: For each term, whether its direction uses a gradient of this step (the default); a random direction
            needs no pass of its own.
        learns: Whether the ascent looks at the gradients of the perturbed terms, which are then kept apart.

    Returns:
        The passes in order; every ascent stands before its descent.
    """
    base, need_base = _unperturbed(terms, need)
    layout = _Layout(base, coupled, statistics, context_rows, row_multiple, share)
    for term in terms:
        layout.know(term.descent, term.rows)
        layout.know(term.ascent, term.ascent_rows)
    active = [k for k, needed in enumerate(need.perturbed) if needed]
    ascents = {k: a for k in active if (fresh is None or fresh[k]) and (a := terms[k].ascent) is not None}
    first = layout.shared_with_base(ascents, need_base)
    still = [k for k, term in enumerate(terms) if term.apart and not need.perturbed[k] and need.present[k]]
    alone = not (coupled or first or still)
    early = [Use(base, STEP)] if need_base and not alone else []
    early += [Use(ascents[k], ascent_of(k)) for k in first] + [Use(terms[k].descent, descent_of(k)) for k in still]
    passes = layout.opening(early) if early or coupled else []
    for k in active:
        term = terms[k]
        if k in ascents and k not in first:
            passes.append(layout.own_pass(Use(ascents[k], ascent_of(k))))
        gradient = descent_of(k) if term.apart or learns else STEP
        if term.select is None:
            passes.append(layout.own_pass(Use(term.descent, gradient), term=k))
        else:
            passes.append(layout.looking_pass(term.select, gradient, term=k))
    if need_base and alone:
        passes.append(layout.own_pass(Use(base, STEP)))
    return _count_each_row_once(passes, len(base))


def _unperturbed(terms: Sequence[Term], need: Need) -> tuple[Tensor, bool]:
    """Sum the descents of the terms at ``w`` itself, shape ``(B,)``, and return whether any rank has a row there."""
    still = [k for k, perturbed in enumerate(need.perturbed) if not (perturbed or terms[k].apart)]
    descents = [terms[k].descent for k in still]
    total = sum(descents[1:], start=descents[0]) if descents else torch.zeros_like(terms[0].descent)
    return total, any(need.present[k] for k in still)


@dataclass(frozen=True)
class _Support:
    """Weights of the batch's rows, and the rows that they weigh."""

    weights: Tensor
    rows: Tensor

    @cached_property
    def aligned(self) -> Tensor:
        """The weights of these rows alone, in order."""
        return self.weights if len(self.rows) == len(self.weights) else self.weights.index_select(0, self.rows)

    @cached_property
    def even(self) -> float | None:
        """The weight of each, where all have the same."""
        numbers = self.aligned.tolist()
        return numbers[0] if numbers and numbers.count(numbers[0]) == len(numbers) else None


@dataclass(frozen=True)
class _Layout:
    base: Tensor
    coupled: bool
    statistics: BatchStatistics
    context_rows: int
    row_multiple: int
    share: bool
    supports: dict[int, _Support] = field(default_factory=dict)
    """By the weights' identity: a term's ascent and descent often are one tensor."""

    def know(self, weights: Tensor | None, rows: Tensor) -> None:
        """Note the rows that some weights weigh."""
        if weights is not None and id(weights) not in self.supports:
            self.supports[id(weights)] = _Support(weights, rows)

    def shared_with_base(self, ascents: dict[int, Tensor], need_base: bool) -> list[int]:
        """Terms whose direction comes from the same forward as the unperturbed loss."""
        if not self.share:
            return [] if need_base or not self.coupled else list(ascents)[:1]
        if not self.coupled:
            if not need_base:
                return []
            return [k for k, ascent in ascents.items() if self._is_cheaper_together(ascent)]
        whole = [k for k, ascent in ascents.items() if self.statistics == "batch" or self._rows(ascent) is None]
        if whole or need_base or not ascents:
            return whole
        return [max(ascents, key=lambda k: int(ascents[k].count_nonzero()))]

    def _is_cheaper_together(self, ascent: Tensor) -> bool:
        # A forward and two backwards of all the rows cost 5 each; a pass for either's own rows costs 3 each.
        own, base = self._support(ascent).rows.numel(), self._support(self.base).rows.numel()
        if 5 * max(own, base) >= 3 * (own + base):
            return False
        return 5 * int(((ascent != 0) | (self.base != 0)).sum()) < 3 * (own + base)

    def _support(self, weights: Tensor) -> _Support:
        if id(weights) not in self.supports:
            self.know(weights, weighed(weights))
        return self.supports[id(weights)]

    def opening(self, uses: list[Use]) -> list[PlannedPass]:
        """Lay out the pass at the unperturbed weights that several uses share; one pass for each where they may not."""
        groups = [uses] if self.share or not uses else [[use] for use in uses]
        passes = []
        for index, group in enumerate(groups):
            whole = self.coupled and index == 0
            passes.append(PlannedPass(None, self._aligned(group, None)) if whole else self._over_own_rows(group))
        return passes

    def own_pass(self, use: Use, *, term: int | None = None) -> PlannedPass:
        """Lay out a pass over the rows that one use weighs."""
        return self._over_own_rows([use], term)

    def _over_own_rows(self, uses: Sequence[Use], term: int | None = None) -> PlannedPass:
        together = uses[0].weights if len(uses) == 1 else torch.stack([use.weights.abs() for use in uses]).sum(0)
        rows = self._rows(together)
        own = self._support(together).rows.numel() if self.coupled and rows is not None else None
        return PlannedPass(rows, self._aligned(uses, rows), term, own=own)

    def _aligned(self, uses: Sequence[Use], rows: Tensor | None) -> tuple[Use, ...]:
        number, aligned = len(self.base) if rows is None else len(rows), []
        for use in uses:
            support = self._support(use.weights)
            if len(support.rows) == number:
                aligned.append(replace(use, weights=support.aligned, even=support.even))
            else:
                aligned.append(use if rows is None else replace(use, weights=use.weights.index_select(0, rows)))
        return tuple(aligned)

    def looking_pass(self, select: Selection, gradient: str, *, term: int) -> PlannedPass:
        """Lay out a forward of the whole batch at the perturbed weights; its losses choose the next pass's rows."""

        def chosen(before: Tensor, after: Tensor) -> PlannedPass:
            return self.own_pass(Use(select(before, after), gradient), term=term)

        return PlannedPass(None, (), term, select=chosen)

    def _rows(self, weights: Tensor) -> Tensor | None:
        """Return the rows with a weight and evenly spaced others, context and padding; ``None`` if that is all rows."""
        if self.coupled and self.statistics == "batch":
            return None
        rows = self._support(weights).rows
        number = rows.numel()
        extra = max(self.context_rows if self.coupled else 0, int(not number))
        extra += -(number + extra) % self.row_multiple
        if number + extra >= weights.numel():
            return None
        if extra:
            others = weighed(weights == 0)
            context = others[torch.linspace(0, len(others) - 1, extra).round().long()]
            rows = torch.cat([rows, context])
        return rows


def _count_each_row_once(passes: Sequence[PlannedPass], size: int) -> list[PlannedPass]:
    unseen: Tensor | None = None
    left = size
    shares: dict[int, Tensor] = {}
    all_of: dict[int, int] = {}
    # A random direction may leave rows that are never forwarded at the weights themselves: they count where they are.
    for index in sorted(range(len(passes)), key=lambda i: passes[i].term is not None):
        rows = passes[index].rows
        number = size if rows is None else rows.numel()
        if unseen is None:
            found = all_of[index] = number
        else:
            fresh = unseen if rows is None else unseen.index_select(0, rows)
            found = int(fresh.sum())
            if found == number:
                all_of[index] = number
            elif found:
                shares[index] = fresh.clone()
        left -= found
        if not left:
            break
        unseen = torch.ones(size, dtype=torch.float64) if unseen is None else unseen
        if rows is not None:
            unseen.index_fill_(0, rows, 0)
    total = size - left
    counted = list(passes)
    for index, number in all_of.items():
        each = 1 / total
        weights = next((use.weights for use in passes[index].uses if use.even == each), None)
        weights = torch.full((number,), each, dtype=torch.float64) if weights is None else weights
        counted[index] = replace(passes[index], counted=weights, evenly=each)
    for index, share in shares.items():
        counted[index] = replace(passes[index], counted=share / total)
    return counted
