"""One step: its passes are opened, made and closed, and its gradient waits to be applied."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from imbsam.errors import PassError
from imbsam.optim._gradients import Gradients
from imbsam.optim._maximize import minimised
from imbsam.optim._misuse import described
from imbsam.optim._numbers import check_number
from imbsam.optim._pass import Backward, Pass
from imbsam.optim._plan import STEP, UNUSED, PlannedPass, Use, ascent_of, descent_of, is_ascent
from imbsam.optim._rows import RowCheck
from imbsam.optim._strangers import STEPS
from imbsam.optim._targets import checked_targets
from imbsam.optim._tensors import backpropagate, outside_graphs
from imbsam.optim._terms import Term
from imbsam.optim._weights import Weights
from imbsam.optim.ascent import Memory

if TYPE_CHECKING:
    from imbsam.optim._sharpness_aware import SharpnessAware

Life = Literal["new", "open", "done", "dead"]
"""Made; inside the ``with`` block; complete and waiting to be applied; applied, dropped or failed."""


class Step:
    """The passes of one step of a method: a context manager, and the iterator that it yields.

    Args:
        method: Method that makes the step.
        targets: Classes ``(B,)`` or memberships ``(B, C)`` of the rows of the batch.
        loss_scale: Factor that the losses given to ``backward`` will be multiplied by.
        accumulate: Whether the gradient is added to the gradients that the parameters have.

    Attributes:
        own: The optimizer's parameters.
        life: State of the step: made, open, waiting or over.
        batch_size: Rows of the batch.
        device: Device of the targets, and so of the rows' indices.
        order: Order of the batch's rows in which the passes are planned, shape ``(B,)``, int64; ``None`` for their own.
        memory: Tensors that ascent and method will keep, by name, once the step has been made.
        norms: Norms of the ascent gradients so far, scalars without graph.
        left: A parameter with a gradient from the passes, and the version of that gradient then.
        loss_scale: Factor on the losses given to ``backward``, or on their gradients.
        span: Rows of the pass in progress to forward next.

    Raises:
        OptionError: If the targets do not fit the method, or ``loss_scale`` is out of range.
    """

    def __init__(
        self, method: "SharpnessAware", targets: Tensor, loss_scale: float = 1.0, *, accumulate: bool = False
    ) -> None:
        check_number("loss_scale", loss_scale, above=0)
        self.life: Life = "new"
        self._seen: list[tuple[Tensor, Tensor | float]] = []
        self.memory: dict[str, Memory] = {}
        self.norms: list[Tensor] = []
        self.own: frozenset[Tensor] = frozenset()
        self.left: tuple[Tensor, int] | None = None
        self.span = slice(0, 0)
        self._method = method
        self.loss_scale = loss_scale
        self._accumulate = accumulate
        self._earlier = method._waiting if accumulate else None
        self._losses_before: list[Tensor] = []
        classes = checked_targets(targets, method)
        self.batch_size, self.device = classes.shape[0], targets.device
        self._plan(classes)
        self._made = 0
        self._settles = 1
        self._rows_left = 0
        self._losses: dict[str, Tensor] = {}
        self._looks_at_losses = method.combines or method.ascent.learns
        self._looks = any(p.select is not None for p in self._planned)
        if self._looks:
            self._before, self._after = torch.zeros(2, self.batch_size, dtype=torch.float64)

    def _plan(self, classes: Tensor) -> None:
        method, ranks, modules = self._method, self._method._ranks, self._method._modules
        if modules.look():
            if method.model is not None:
                method._check_model(method.model)
            method._weights = Weights(method.model, method.perturb)
        batchnorms = modules.batchnorms
        live = batchnorms.live
        whole = method.rows == "all" or (live and batchnorms.need_the_batch)
        # Buffers that a forward moves need the whole batch once, at the weights.
        coupled = whole or live or modules.buffers.move
        in_order = method.is_sharp and not coupled and method.row_multiple == 1 and ranks.size == 1
        terms, self.order = method.ordered_terms(classes) if in_order else (method.terms(classes), None)
        if not all(t.ascent is None or method._moves(t) for t in terms):
            # Without a perturbation the whole batch is forwarded at once, in its own order.
            own = terms if self.order is None else method.terms(classes)
            terms = [t if t.ascent is None or method._moves(t) else t.at_the_weights() for t in own]
            self.order = None
        ranks.compare(lambda: described(method))
        mean_rows, need = ranks.agree(self.batch_size, terms, step=method.steps)
        if mean_rows != self.batch_size:
            scale = self.batch_size / mean_rows
            terms = [term.scaled(scale, ascent=method.climb == "together") for term in terms]
        self._terms = terms
        memory = method.memory
        self._kept = [memory.get(memory_name(k, term), {}) if memory else {} for k, term in enumerate(terms)]
        self._fresh = tuple([method.ascent.needs_gradient(kept, method.steps) for kept in self._kept])
        context_rows = method.context_rows or (batchnorms.context_rows if live else 0)
        self._planned = method._lay_out(
            tuple(terms),
            need,
            coupled=coupled,
            statistics="batch" if whole else method.batch_statistics,
            context_rows=context_rows if live else 0,
            row_multiple=method.row_multiple,
            share=ranks.size == 1,
            fresh=self._fresh,
            learns=method.ascent.learns,
        ).copy()
        if modules.watched and self._planned[0].term is not None and any(map(is_lazy, method._own_params())):
            # Nothing can be perturbed that is not there yet.
            self._planned.insert(0, PlannedPass(None, ()))
        self._check: RowCheck | None = None
        if method._rows_unchecked and not (whole or live):
            in_parts = any(p.rows is not None for p in self._planned)
            # A compiled model would be compiled for its few rows.
            if in_parts and not modules.compiled:
                self._check = RowCheck(self._planned, self.batch_size, type(method).__name__)

    @outside_graphs
    def __enter__(self) -> "Step":
        if self.life != "new":
            raise PassError(
                "these passes are over, or passes() was called again since: enter each `with` block right after its "
                "passes()."
            )
        method = self._method
        reached = method._weights.reached(method._own_params())
        self.own = reached.mine
        self._gradients = Gradients(reached, accumulate=self._accumulate, waiting=self._earlier is not None)
        if self._earlier is not None:
            self._earlier.life = "dead"
            self._losses_before = [*self._earlier._losses_before, self._earlier.loss]
            self.norms = [*self._earlier.norms]
            self.memory = {**self._earlier.memory}
        method._strangers.start(self._gradients.known)
        method._modules.remember(further=self._earlier is not None)
        method._watch(self)
        STEPS.add(self)
        self.life = "open"
        return self

    @property
    def loss(self) -> Tensor:
        """Mean loss of the batch at the unperturbed weights, a scalar without graph; complete after the passes."""
        if not self._seen:
            return torch.zeros(())
        home = self._seen[0][0].device
        losses, weights = zip(*self._seen, strict=True)
        seen = torch.cat([part.to(home, non_blocking=True) for part in losses]) if len(losses) > 1 else losses[0]
        even = weights[0]
        if isinstance(even, float) and all(isinstance(each, float) and each == even for each in weights):
            return (seen * even).sum()
        aligned = [weighing(part, each).to(home, non_blocking=True) for part, each in self._seen]
        return (seen * torch.cat(aligned)).sum()

    def __len__(self) -> int:
        return len(self._planned)

    def __iter__(self) -> Iterator[Pass]:
        return _Outside(self._go())

    def _go(self) -> Iterator[Pass]:
        if self.life != "open" or self._made:
            raise PassError("write `with optimizer.passes(targets) as passes: for p in passes: ...`, and loop once.")
        weights, buffers = self._method._weights, self._method._modules.buffers
        while self._made < len(self._planned):
            planned = self._planned[self._made]
            if self._made:
                buffers.rewind()
            if self._check is not None:
                self._check.before(planned)
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
            if self._made == self._settles:
                self._settle(planned)
            if self._check is not None:
                self._check.after(planned)
                if self._check.follows(planned):
                    self._planned[self._made : self._made] = self._check.passes

    def _settle(self, planned: PlannedPass) -> None:
        """Take the buffers after the first pass for the step's, unless that pass saw only a part of the batch."""
        modules, ranks = self._method._modules, self._method._ranks
        modules.buffers.settle(look=modules.watched)
        if modules.watched and self._settles == 1:
            # Ranks that share weights forward as often as each other.
            elsewhere = planned.rows is not None or planned.term is not None
            if ranks.most(int(modules.buffers.move and elsewhere)):
                self._planned.insert(self._made, PlannedPass(None, ()))
                self._settles += 1

    def most_on_any_rank(self, number: int) -> int:
        """Return the largest number on any rank, where ranks must make equally many forwards.

        Args:
            number: The number on this rank.
        """
        return self._method._ranks.most(number)

    def _forwarded(self, planned: PlannedPass, span: slice, *, counts: bool = True) -> Pass:
        """Return the rows to forward next, after telling BatchNorm and the ranks of them."""
        ranks = self._method._ranks
        if ranks.size > 1:
            last = span.stop == self._size(planned)
            ranks.send(gradients=last and self._is_needed_everywhere(planned))
        self.span = span
        self._method._modules.batchnorms.weigh(planned.row_groups(span, self.batch_size))
        return Pass(self, planned, span, counts=counts)

    def _size(self, planned: PlannedPass) -> int:
        return self.batch_size if planned.rows is None else planned.rows.numel()

    def _is_needed_everywhere(self, planned: PlannedPass) -> bool:
        """Return whether ranks need each other's part of a gradient now; a later pass may send a sum."""
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
            loss_scale=self.loss_scale,
            state=method.state,
            step=method.steps,
        )
        climbed = method._weights.climb(method.ascent, slopes, self._kept[k])
        self._gradients.collect(STEP)
        if not method.keeps_ascents:
            self._gradients.drop(gradient)
        if climbed.norm is not None:
            self.norms.append(climbed.norm)
        if climbed.memory:
            self.memory[memory_name(k, self._terms[k])] = climbed.memory

    def _backward(self, planned: PlannedPass, span: slice | None, losses: Tensor, by: Backward | None = None) -> None:
        """Run the backwards of a pass for a span of its rows; ``None`` stands for rows of weight 0.

        ``by`` replaces ``Tensor.backward``, and multiplies by the loss scale itself.
        """
        current = self.life == "open" and self._made < len(self._planned) and planned is self._planned[self._made]
        if not current or (span is not None and losses.shape[0] > self._rows_left):
            raise PassError("backward() was called on a pass that is over: call it once for its rows, inside the loop.")
        scale = self.loss_scale if by is None else 1.0
        mean_by = self._strangers_gain(planned, span, losses, by)
        for use in planned.uses:
            self._gradients.collect(use.gradient)
            weights = weighing(losses, 0.0 if span is None else use.even if use.even is not None else use.weights[span])
            last = use is planned.uses[-1]
            if by is None:
                # The gradient of the weighted sum, without the sum itself, which nothing needs.
                backpropagate(losses, weights, retain_graph=not last)
            else:
                by((losses * weights).sum(), retain_graph=not last)
            if use is mean_by:
                self._method._strangers.gain()
            else:
                self._method._strangers.forget()
            if span is not None and self._looks_at_losses:
                value = (losses.detach() * weights).sum()
                self._count(use.gradient, value if scale == 1 else value / scale)
        if span is None:
            return
        self._rows_left -= losses.shape[0]
        seen = losses.detach() if scale == 1 else losses.detach() / scale
        if planned.counted is not None:
            self._seen.append((seen, planned.counted[span] if planned.evenly is None else planned.evenly))
        if self._check is not None:
            self._check.see(planned, span, seen)
        if self._looks and (planned.term is None or planned.select is not None):
            rows = torch.arange(self.batch_size) if planned.rows is None else planned.rows
            (self._before if planned.term is None else self._after)[rows[span]] = seen.to(self._before)

    def _strangers_gain(
        self, planned: PlannedPass, span: slice | None, losses: Tensor, by: Backward | None
    ) -> Use | None:
        """Find parameters of other optimizers, and the backward that gives their part of the mean loss, if any does."""
        strangers = self._method._strangers
        if self._method._ranks.sharded:
            return None
        if self._method._modules.watched and losses.requires_grad:
            strangers.find(losses.sum(), self._gradients.known)
        if not strangers or span is None or planned.counted is None:
            return None
        mean = planned.counted[span]
        for use in planned.uses:
            if torch.equal(use.weights[span], mean):
                return use
        if losses.requires_grad and bool(mean.any()):
            value = (losses * weighing(losses, mean)).sum() * (1.0 if by is None else self.loss_scale)
            self._gradients.collect(UNUSED)
            strangers.gain_from(value)
            self._gradients.collect(STEP)
            self._gradients.drop(UNUSED)
        return None

    @property
    def serves_others(self) -> bool:
        """Return whether parameters of other optimizers may need the gradient of the mean loss."""
        return bool(self._method._strangers) or self._method._modules.watched

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
            strangers = self._method._strangers
            first = planned.counted is not None
            if first:
                # The closure may clear them, as it does without passes.
                strangers.give_back()
            loss = closure()
            if not isinstance(loss, Tensor):
                raise PassError("the closure must return the loss it called backward() on.")
            if self._method._modules.watched:
                strangers.find(loss, self._gradients.known, backpropagated=True)
            if first:
                strangers.gain()
            else:
                strangers.forget()
            self._losses[gradient] = loss.detach()
            if planned.counted is not None:
                self._seen.append((loss.detach().reshape(1), 1.0))
            self._rows_left -= len(each.rows)

    @outside_graphs
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        method, modules = self._method, self._method._modules
        complete = kind is None and self._made == len(self._planned)
        self.life = "dead"
        method._weights.restore()
        modules.batchnorms.weigh(None)
        method._watch(None)
        method._ranks.send(gradients=True)
        try:
            if complete:
                if self._looks_at_losses:
                    self._combine()
                self.life = "done"
        finally:
            done = self.life == "done"
            self._gradients.close(keep=done)
            self.left = next(((p, p.grad._version) for p in self.own if p.grad is not None), None) if done else None
            method._strangers.end(keep=done)
            modules.buffers.end(settled=done)
            modules.stop(seen=done)
            if not done and self._earlier is not None:
                self._earlier.life, method._step = "done", self._earlier
            if done and self._check is not None:
                method._rows_unchecked = not self._check.passes
        if done and (self.loss_scale != 1 or method.nonfinite == "unchecked"):
            # Nobody may look at this step, or tell that a GradScaler skipped it.
            modules.buffers.undo_unless_finite()

    @torch.no_grad()
    def _combine(self) -> None:
        method = self._method
        if method.ascent.learns:
            for k in sorted({planned.term for planned in self._planned if planned.term is not None}):
                gradient = minimised(
                    self._gradients.merge(descent_of(k), loss_scale=self.loss_scale), method.param_groups
                )
                self._count(STEP, self._losses.pop(descent_of(k)))
                self.memory[memory_name(k, self._terms[k])] = method.ascent.learn(gradient, self._kept[k])
        parts = self._gradients.parts(self._losses, method._ranks.mean, loss_scale=self.loss_scale)
        combined = method.combine(parts) if parts.params else None
        if combined is not None:
            if combined.gradient is not None:
                self._gradients.replace(parts.reached, combined.gradient)
            self.memory.update(combined.memory)

    def grads(self) -> list[Tensor]:
        """Return the gradients that are in ``.grad`` of the optimizer's parameters now."""
        return [grad for p in self._method._own_params() if (grad := p.grad) is not None]

    @property
    def loss_parts(self) -> list[Tensor]:
        """Return what the loss of every micro-batch of the step is made of, tensors of any shapes."""
        return [*self._losses_before, *(losses for losses, _ in self._seen)]

    @property
    def all_losses(self) -> list[Tensor]:
        """Return the loss of every micro-batch of the step."""
        return [*self._losses_before, self.loss]


class _Outside:
    """Iterator whose steps run outside compiled graphs."""

    def __init__(self, passes: Iterator[Pass]) -> None:
        self._passes = passes

    def __iter__(self) -> "_Outside":
        return self

    @outside_graphs
    def __next__(self) -> Pass:
        return next(self._passes)


def weighing(losses: Tensor, weights: Tensor | float) -> Tensor:
    """Return the weights of losses, or the same weight for each, in the losses' shape, dtype and device."""
    if isinstance(weights, Tensor):
        return weights.to(losses, non_blocking=True)
    return torch.full_like(losses, weights, requires_grad=False)


def memory_name(k: int, term: Term) -> str:
    """Return the name of the ascent's memory of a term."""
    return ascent_of(k) if term.label is None else f"ascent {term.label}"
