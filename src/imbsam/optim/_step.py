"""One step: its passes are opened, gone through and closed, and its gradient waits to be applied."""

import math
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError, OptionError, PassError
from imbsam.optim._gradients import Gradients
from imbsam.optim._misuse import described
from imbsam.optim._pass import Backward, Pass
from imbsam.optim._plan import STEP, UNUSED, PlannedPass, ascent_of, descent_of, is_ascent, plan
from imbsam.optim._targets import checked_targets
from imbsam.optim._terms import Term
from imbsam.optim._weights import params_of
from imbsam.optim.ascent import Memory, global_norm

if TYPE_CHECKING:
    from imbsam.optim._sharpness_aware import SharpnessAware

Life = Literal["new", "open", "done", "dead"]
"""Made; inside the ``with`` block; complete and waiting to be applied; applied, dropped or failed."""


class Step:
    """The passes of one step of a method: a context manager, and the iterator that it yields.

    Args:
        method: Whose step it is.
        targets: Class of each row of the batch, shape ``(B,)``, integers.
        loss_scale: What the losses given to ``backward`` will be multiplied by.

    Attributes:
        life: Where the step is.
        loss: Mean loss of the batch at the unperturbed weights, a scalar without graph; complete after the passes.
        batch_size: Rows of the batch.
        device: Where the targets, and so the rows' indices, are.
        memory: What ascent and method will keep, by name, once the step has been made.
        norms: Of the ascent gradients so far, scalars without graph.

    Raises:
        OptionError: If the targets do not fit the method, or ``loss_scale`` is out of range.
    """

    def __init__(self, method: "SharpnessAware", targets: Tensor, loss_scale: float = 1.0) -> None:
        if not (math.isfinite(loss_scale) and loss_scale > 0):
            raise OptionError(f"loss_scale must be finite and above 0; got {loss_scale}.")
        self.life: Life = "new"
        self.loss = torch.zeros(())
        self.memory: dict[str, Memory] = {}
        self.norms: list[Tensor] = []
        self._method = method
        self._loss_scale = loss_scale
        classes = checked_targets(targets, method)
        self.batch_size, self.device = len(classes), targets.device
        self._plan(classes)
        self._made = 0
        self._rows_left = 0
        self._losses: dict[str, Tensor] = {}
        self._looks = any(p.select is not None for p in self._planned)
        self._before, self._after = torch.zeros(2, self.batch_size if self._looks else 0, dtype=torch.float64)

    def _plan(self, classes: Tensor) -> None:
        method, ranks = self._method, self._method._ranks
        terms = [term if method._moves(term) else term.at_the_weights() for term in method.terms(classes)]
        ranks.compare(described(method))
        mean_rows, need = ranks.agree(self.batch_size, terms, step=method.steps)
        if mean_rows != self.batch_size:
            scale = self.batch_size / mean_rows
            terms = [term.scaled(scale, ascent=method.climb == "together") for term in terms]
        self._terms = terms
        self._kept = [method.memory.get(_memory_name(k, term), {}) for k, term in enumerate(terms)]
        self._fresh = [method.ascent.needs_gradient(kept, method.steps) for kept in self._kept]
        context_rows = method.context_rows
        self._planned = plan(
            terms,
            need,
            coupled=method._statistics.live(),
            statistics=method.batch_statistics,
            context_rows=method._statistics.context_rows if context_rows is None else context_rows,
            row_multiple=method.row_multiple,
            share=ranks.size == 1,
            fresh=self._fresh,
            learns=method.ascent.learns,
        )

    def __enter__(self) -> "Step":
        if self.life != "new":
            raise PassError("these passes are over, or passes() was called again since: enter each where it is made.")
        method = self._method
        self._gradients = Gradients(method._weights.reachable(method.param_groups))
        method._statistics.remember()
        if method._watch is not None:
            method._watch.start()
        self.life = "open"
        return self

    def __len__(self) -> int:
        return len(self._planned)

    def __iter__(self) -> Iterator[Pass]:
        if self.life != "open" or self._made:
            raise PassError("write `with optimizer.passes(targets) as passes: for p in passes: ...`, and loop once.")
        weights = self._method._weights
        while self._made < len(self._planned):
            planned = self._planned[self._made]
            if planned.term is not None and not weights.perturbed:
                self._climb(planned.term)
            rows = self._rows_left = self._size(planned)
            yield self._forwarded(planned, slice(0, rows))
            if self._rows_left:
                raise PassError(
                    f"a pass ended without the losses of {self._rows_left} of its {rows} rows: call backward()."
                )
            self._made += 1
            if planned.select is not None:
                self._planned.insert(self._made, planned.select(self._before, self._after))
            else:
                weights.restore()
            if self._made == 1:
                self._method._statistics.settle()

    def most_on_any_rank(self, number: int) -> int:
        """The largest of a number that each rank has, where ranks must make as many forwards.

        Args:
            number: This rank's.
        """
        return self._method._ranks.most(number)

    def _forwarded(self, planned: PlannedPass, span: slice, *, counts: bool = True) -> Pass:
        """The rows to forward next, of which BatchNorm and the ranks are told."""
        ranks = self._method._ranks
        if ranks.size > 1:
            last = span.stop == self._size(planned)
            ranks.send(gradients=last and self._is_needed_everywhere(planned))
        self._method._statistics.weigh(planned.row_groups(span, self.batch_size))
        return Pass(self, planned, span, counts=counts)

    def _size(self, planned: PlannedPass) -> int:
        return self.batch_size if planned.rows is None else len(planned.rows)

    def _is_needed_everywhere(self, planned: PlannedPass) -> bool:
        """Whether ranks need each other's part of a gradient now; a later pass may send the sum of several."""
        later = {use.gradient for other in self._planned[self._made + 1 :] for use in other.uses}
        together = self._method.climb == "together"
        return any(together if is_ascent(use.gradient) else use.gradient not in later for use in planned.uses)

    def _climb(self, k: int) -> None:
        method, gradient = self._method, ascent_of(k)
        if self._fresh[k]:
            self._gradients.collect(gradient)
        slopes = method._weights.slopes(
            method.param_groups,
            self._terms[k],
            fresh=self._fresh[k],
            keep=method.keeps_ascents,
            loss_scale=self._loss_scale,
        )
        climbed = method._weights.climb(method.ascent, slopes, self._kept[k])
        self._gradients.collect(STEP)
        if not method.keeps_ascents:
            self._gradients.drop(gradient)
        if climbed.norm is not None:
            self.norms.append(climbed.norm)
        if climbed.memory:
            self.memory[_memory_name(k, self._terms[k])] = climbed.memory

    def _backward(self, planned: PlannedPass, span: slice | None, losses: Tensor, by: Backward | None = None) -> None:
        """Run the backwards of a pass for a span of its rows; ``None``: for rows that count nothing.

        ``by`` stands in the place of ``Tensor.backward``, and multiplies by the loss scale itself.
        """
        current = self.life == "open" and self._made < len(self._planned) and planned is self._planned[self._made]
        if not current or (span is not None and len(losses) > self._rows_left):
            raise PassError("backward() was called on a pass that is over: call it once for its rows, inside the loop.")
        scale = self._loss_scale if by is None else 1.0
        for use in planned.uses:
            self._gradients.collect(use.gradient)
            value = (losses * 0).sum() if span is None else weighted_sum(losses, use.weights[span])
            (by or Tensor.backward)(value, retain_graph=use is not planned.uses[-1])
            if span is not None:
                self._count(use.gradient, value.detach() / scale)
        if span is None:
            return
        self._rows_left -= len(losses)
        seen = losses.detach() if scale == 1 else losses.detach() / scale
        if planned.counted is not None:
            self.loss = self.loss.to(losses.device) + weighted_sum(seen, planned.counted[span])
        if self._looks and (planned.term is None or planned.select is not None):
            rows = torch.arange(self.batch_size) if planned.rows is None else planned.rows
            (self._before if planned.term is None else self._after)[rows[span]] = seen.to(self._before)

    def _count(self, gradient: str, loss: Tensor) -> None:
        self._losses[gradient] = self._losses[gradient] + loss if gradient in self._losses else loss

    def run(self, closure: Callable[[], Tensor]) -> None:
        """Make every pass with a closure that computes the batch's mean loss and its gradient by itself.

        Args:
            closure: Clears gradients, forwards, calls backward; returns the mean loss, shape ``()``.

        Raises:
            PassError: If the closure returns no loss.
        """
        for each in self:
            planned = self._planned[self._made]
            gradient = planned.uses[0].gradient if planned.uses else UNUSED
            self._gradients.collect(gradient)
            loss = closure()
            if not isinstance(loss, Tensor):
                raise PassError("the closure must return the loss it called backward() on.")
            self._losses[gradient] = loss.detach()
            if planned.counted is not None:
                self.loss = loss.detach()
            self._rows_left -= len(each.rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        method, statistics = self._method, self._method._statistics
        complete = kind is None and self._made == len(self._planned)
        self.life = "dead"
        method._weights.restore()
        statistics.weigh(None)
        method._ranks.send(gradients=True)
        if method._watch is not None:
            method._watch.stop()
        try:
            if complete:
                self._combine()
                self.life = "done"
        finally:
            done = self.life == "done"
            self._gradients.close(keep=done)
            statistics.end(settled=done)
        if done:
            method._watch = None
            if self._loss_scale != 1 or method.nonfinite == "unchecked":
                # Nobody may look at this step, or tell that a GradScaler skipped it.
                statistics.undo_unless_finite()

    @torch.no_grad()
    def _combine(self) -> None:
        method = self._method
        if method.ascent.learns:
            for k in sorted({planned.term for planned in self._planned if planned.term is not None}):
                gradient = self._gradients.merge(descent_of(k), loss_scale=self._loss_scale)
                self._count(STEP, self._losses.pop(descent_of(k)))
                self.memory[_memory_name(k, self._terms[k])] = method.ascent.learn(gradient, self._kept[k])
        parts = self._gradients.parts(self._losses, method._ranks.mean)
        combined = method.combine(parts) if parts.params else None
        if combined is not None:
            if combined.gradient is not None:
                self._gradients.replace(parts.reached, combined.gradient)
            self.memory.update(combined.memory)

    def check(self) -> None:
        """Refuse a step that would poison the weights, and undo what it did to the running statistics.

        Raises:
            NonFiniteError: If a loss or gradient is NaN or infinite, on any rank.
        """
        method = self._method
        grads = [p.grad for group in method.param_groups for p in params_of(group) if p.grad is not None]
        found: Mapping[str, list[Tensor]] = {
            "the loss of": [self.loss],
            "an ascent gradient of": self.norms,
            "the gradient of": [global_norm(grads)] if grads else [],
        }
        # Fetched together: an accelerator waits once.
        values = [v.to(self.loss.device, torch.float64, non_blocking=True) for part in found.values() for v in part]
        if not method._ranks.anywhere(~torch.stack(values).isfinite().all()):
            return
        method._statistics.end(settled=False)
        mine = (name for name, part in found.items() if not all(bool(v.isfinite()) for v in part))
        raise NonFiniteError(
            f"{next(mine, 'a loss or gradient of another rank in')} this step is NaN or infinite; weights and "
            "statistics are those before it. Look for NaN in the inputs, lower the learning rate or rho, or skip the "
            "batch."
        )


def weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of losses times weights, both of shape ``(R,)``; equal weights are applied as one number, without a copy."""
    first = float(weights[0])
    if bool((weights == first).all()):
        # Multiplied before the sum: the losses get a dense gradient, as mean() gives, so that matmul rounds it alike.
        return (losses * first).sum()
    # Not `losses @ weights`: autocast would round both to half precision.
    return (losses * weights.to(losses, non_blocking=True)).sum()


def _memory_name(k: int, term: Term) -> str:
    """What the ascent's memory of a term goes by."""
    return ascent_of(k) if term.label is None else f"ascent {term.label}"
