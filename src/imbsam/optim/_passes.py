"""The passes of one step, as the caller's loop sees them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import Tensor

from imbsam.errors import NonFiniteError, OptionError, PassError
from imbsam.optim._batchnorm import RunningStatistics
from imbsam.optim._misuse import Unseen
from imbsam.optim._plan import STEP, UNUSED, PlannedPass, apart
from imbsam.optim._terms import Term
from imbsam.optim._weights import Gradients, Parts, Weights
from imbsam.optim.ascent import Ascent, Memory


class Pass:
    """One forward and backward of a step, over some rows of the batch.

    Attributes:
        rows: Indices of the rows to forward, shape ``(R,)``, int64, on the targets' device.
    """

    def __init__(self, passes: "Passes", planned: PlannedPass, start: int, stop: int, *, counts: bool = True) -> None:
        self._passes = passes
        self._counts = counts
        self._planned = planned
        self._span = slice(start, stop)
        self._whole = planned.rows is None and (start, stop) == (0, passes.batch_size)
        rows = torch.arange(start, stop) if planned.rows is None else planned.rows[self._span]
        self.rows = rows.to(passes.device, non_blocking=True)

    def select(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Take the pass's rows of tensors whose first dimension is the batch; without a copy where it is all of them.

        Args:
            batch: Tensors of shape ``(B, ...)``, on any device.

        Returns:
            Tensors of shape ``(R, ...)``.
        """
        return batch if self._whole else tuple(x[self.rows.to(x.device)] for x in batch)

    def split(self, size: int) -> Iterator["Pass"]:
        """Cut the pass into micro-batches; their gradients add up to the pass's.

        Go through them one by one, forward and backward, as they are yielded: BatchNorm is told of each in turn. Ranks
        that share sharded weights gather them together, so that one with fewer rows forwards its first ones again,
        which then count nothing.

        Args:
            size: Rows in each, the last may have fewer.

        Yields:
            Passes over consecutive rows of this one.

        Raises:
            OptionError: If ``size`` is below 1.
        """
        if size < 1:
            raise OptionError(f"a micro-batch needs at least 1 row; got size={size}.")
        starts = range(self._span.start, self._span.stop, size)
        idle = self._passes.most_on_any_rank(len(starts)) - len(starts)
        for number, start in enumerate([starts[0]] * idle + list(starts)):
            stop = min(start + size, self._span.stop)
            self._passes.prepare(self._planned, slice(start, stop))
            yield Pass(self._passes, self._planned, start, stop, counts=number >= idle)

    @property
    def backwards(self) -> int:
        """How many backwards share the pass's forward."""
        return len(self._planned.uses)

    @property
    def needs_gradient(self) -> bool:
        """Whether the pass has a backward; where not, its forward may run under ``torch.no_grad()``."""
        return bool(self._planned.uses)

    def backward(self, losses: Tensor, *, by: Callable[..., object] | None = None) -> None:
        """Backpropagate the losses with the weights the method gives these rows.

        Args:
            losses: Loss of each row of the pass, in order, shape ``(R,)``; multiplied by the ``loss_scale`` that
                ``passes`` was given, if any.
            by: Called with the weighted sum of the losses, shape ``()``, and ``retain_graph``, in the place of
                ``Tensor.backward``: a framework's own, as Fabric's, which multiplies by ``loss_scale`` itself, so that
                the losses come as they are.

        Raises:
            PassError: If the losses are not one per row, or this is not the pass in progress.
        """
        if losses.shape != self.rows.shape:
            raise PassError(
                f"backward() needs the loss of each of the {len(self.rows)} rows, shape ({len(self.rows)},); "
                f"got shape {tuple(losses.shape)}. Use a criterion with reduction='none'."
            )
        if self._counts:
            self._passes.backpropagate(self._planned, losses, self._span, by)
        else:
            self._passes.backpropagate_nothing(self._planned, losses, by)


@dataclass(frozen=True)
class Combined:
    """What a method makes of the gradients of its passes.

    Args:
        gradient: For the base optimizer, aligned with the parts' ``params`` and of their shapes.
        memory: What the method keeps for each parameter, of its shape, by name, once the step has been made.
    """

    gradient: Gradients
    memory: Mapping[str, Memory] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What a method decides about one step.

    Args:
        terms: Its terms.
        ascent: Where their perturbations point.
        fresh: For each term, whether its direction is made of a gradient of this step.
        memory: What ascent and method kept in earlier steps, by name.
        keeps_ascents: Whether :attr:`combine` needs the ascent gradients.
        shared_ascent: Whether ranks climb along the gradient of all their rows, else each along that of its own.
        combine: Makes one gradient of the parts, given the weighted loss of each slot; ``None`` leaves the step's.
    """

    terms: Sequence[Term]
    ascent: Ascent
    fresh: Sequence[bool]
    memory: Mapping[str, Memory]
    keeps_ascents: bool
    shared_ascent: bool
    combine: Callable[[Parts, Mapping[int, Tensor]], Combined | None]

    def kept(self, term: int) -> Memory:
        """What the ascent kept of a term."""
        return self.memory.get(ascent_name(term, self.terms[term]), {})


def ascent_name(place: int, term: Term) -> str:
    """What the ascent's memory of a term goes by."""
    return f"ascent {place if term.label is None else term.label}"


class Passes:
    """The passes of one step: a context manager and the iterator it yields.

    Attributes:
        loss: Mean loss of the batch at the unperturbed weights, a scalar without graph; complete after the passes.
        batch_size: Rows of the batch.
        device: Where the targets, and so the rows' indices, are.
        memory: What ascent and method will keep, by name, once the step has been made.
        norms: Of the ascent gradients so far, scalars without graph.
        most_on_any_rank: The largest of a number that each rank has, where ranks must make as many forwards.
    """

    def __init__(
        self,
        planned: Sequence[PlannedPass],
        rules: Rules,
        *,
        batch_size: int,
        loss_scale: float,
        device: torch.device,
        weights: Weights,
        statistics: RunningStatistics,
        watch: Unseen | None,
        send: Callable[..., None],
        most_on_any_rank: Callable[[int], int],
        on_open: Callable[["Passes"], None],
        on_close: Callable[["Passes", bool], None],
    ) -> None:
        self.loss = torch.zeros(())
        self.batch_size = batch_size
        self._loss_scale = loss_scale
        self.device = device
        self.memory: dict[str, Memory] = {}
        self.norms: list[Tensor] = []
        self._planned = list(planned)
        self._rules = rules
        self._weights = weights
        self._statistics = statistics
        self._watch = watch
        self._send = send
        self.most_on_any_rank = most_on_any_rank
        self._on_open = on_open
        self._on_close = on_close
        self._open = False
        self._made = 0
        self._rows_left = 0
        self._values: dict[int, Tensor] = {}
        self._looks = any(p.select is not None for p in planned)
        self._before, self._after = torch.zeros(2, batch_size if self._looks else 0, dtype=torch.float64)

    def __enter__(self) -> "Passes":
        self._on_open(self)
        self._statistics.remember()
        if self._watch is not None:
            self._watch.start()
        self._open = True
        return self

    @property
    def is_scaled(self) -> bool:
        """Whether the losses come multiplied, as by a ``GradScaler``, which skips steps without a word."""
        return self._loss_scale != 1

    @property
    def is_open(self) -> bool:
        """Whether the ``with`` block is being run."""
        return self._open

    def __len__(self) -> int:
        return len(self._planned)

    def __iter__(self) -> Iterator[Pass]:
        if not self._open or self._made:
            raise PassError("write `with optimizer.passes(targets) as passes: for p in passes: ...`, and loop once.")
        while self._made < len(self._planned):
            planned = self._planned[self._made]
            if planned.term is not None and not self._weights.perturbed:
                self._climb(planned.term)
            rows = self.batch_size if planned.rows is None else len(planned.rows)
            self._rows_left = rows
            self.prepare(planned, slice(0, rows))
            yield Pass(self, planned, 0, rows)
            if self._rows_left:
                raise PassError(
                    f"a pass ended without the losses of {self._rows_left} of its {rows} rows: call backward()."
                )
            self._made += 1
            if planned.select is not None:
                self._planned.insert(self._made, planned.select(self._before, self._after))
            else:
                self._weights.restore()
            if self._made == 1:
                self._statistics.settle()

    def prepare(self, planned: PlannedPass, span: slice) -> None:
        """Tell BatchNorm what the rows of the next forward stand for, and the ranks whether its gradients are shared.

        Args:
            planned: The pass.
            span: Those of its rows that are forwarded next.
        """
        rows = self.batch_size if planned.rows is None else len(planned.rows)
        self._send(gradients=span.stop == rows and self._is_needed_everywhere(planned))
        self._weigh(planned, span)

    def _is_needed_everywhere(self, planned: PlannedPass) -> bool:
        """Whether ranks need each other's part of the gradient now; a later pass may send the sum of several."""
        later = {use.slot for other in self._planned[self._made + 1 :] for use in other.uses}
        slots = {use.slot for use in planned.uses}
        return any(slot not in later if slot < 0 else self._rules.shared_ascent for slot in slots)

    def _weigh(self, planned: PlannedPass, span: slice) -> None:
        if planned.own is None or planned.rows is None:
            self._statistics.weigh(None)
            return
        context = len(planned.rows) - planned.own
        each = (self.batch_size - planned.own) / max(1, context)
        own = min(span.stop, planned.own) - min(span.start, planned.own)
        sizes = [(own, float(own)), (span.stop - span.start - own, (span.stop - span.start - own) * each)]
        total = sum(weight for _, weight in sizes)
        self._statistics.weigh([(number, weight / total) for number, weight in sizes if number])

    def _climb(self, term: int) -> None:
        rules = self._rules
        climbed = self._weights.climb(
            term,
            rules.terms[term],
            rules.ascent,
            rules.kept(term),
            fresh=rules.fresh[term],
            keep=rules.keeps_ascents,
            loss_scale=self._loss_scale,
        )
        self.norms += [] if climbed.norm is None else [climbed.norm]
        if climbed.memory:
            self.memory[ascent_name(term, rules.terms[term])] = climbed.memory

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = kind is None and self._made == len(self._planned)
        self._open = False
        self._weights.restore()
        self._statistics.weigh(None)
        self._send(gradients=True)
        if self._watch is not None:
            self._watch.stop()
        try:
            if complete:
                self._combine()
        finally:
            self._weights.close(keep_gradient=complete)
            if complete:
                self._statistics.to_settled()
            else:
                self._statistics.to_remembered()
            self._on_close(self, complete)

    @torch.no_grad()
    def _combine(self) -> None:
        if self._rules.ascent.learns:
            self._learn()
        combined = self._rules.combine(self._weights.parts(), self._values)
        if combined is not None:
            self._weights.replace(combined.gradient)
            self.memory.update(combined.memory)

    def _learn(self) -> None:
        rules = self._rules
        for k in sorted({planned.term for planned in self._planned if planned.term is not None}):
            gradient = self._weights.merge(apart(k), loss_scale=self._loss_scale)
            self._add(self._values, STEP, self._values.pop(apart(k)))
            self.memory[ascent_name(k, rules.terms[k])] = rules.ascent.learn(gradient, rules.kept(k))

    def run(self, closure: Callable[[], Tensor]) -> None:
        """Make every pass with a closure that computes the batch's mean loss and its gradient by itself.

        Args:
            closure: Clears gradients, forwards, calls backward; returns the mean loss, shape ``()``.

        Raises:
            PassError: If the closure returns no loss.
        """
        for each in self:
            planned = self._planned[self._made]
            slot = planned.uses[0].slot if planned.uses else UNUSED
            self._weights.collect(slot)
            loss = closure()
            if not isinstance(loss, Tensor):
                raise PassError("the closure must return the loss it called backward() on.")
            self._values[slot] = loss.detach()
            if planned.counted is not None:
                self.loss = loss.detach()
            self._rows_left -= len(each.rows)

    def check(self, gradient_norm: Tensor | None, anywhere: Callable[[Tensor], bool]) -> None:
        """Refuse a step that would poison the weights, and undo what it did to the running statistics.

        Args:
            gradient_norm: Norm of the combined gradient, shape ``()``; ``None`` where there is none.
            anywhere: Whether what this rank found, a bool tensor of shape ``()``, is so on any rank.

        Raises:
            NonFiniteError: If the loss, an ascent gradient or the combined gradient is NaN or infinite, on any rank.
        """
        found = {"the loss of": [self.loss], "an ascent gradient of": self.norms}
        found["the gradient of"] = [] if gradient_norm is None else [gradient_norm]
        # Fetched together: an accelerator waits once.
        values = [v.to(self.loss.device, torch.float64, non_blocking=True) for part in found.values() for v in part]
        if not anywhere(~torch.stack(values).isfinite().all()):
            return
        self._statistics.to_remembered()
        mine = (name for name, part in found.items() if not all(bool(v.isfinite()) for v in part))
        raise NonFiniteError(
            f"{next(mine, 'a loss or gradient of another rank in')} this step is NaN or infinite; weights and "
            "statistics are those before it. Look for NaN in the inputs, lower the learning rate or rho, or skip the "
            "batch."
        )

    def backpropagate(
        self, planned: PlannedPass, losses: Tensor, span: slice, by: Callable[..., object] | None = None
    ) -> None:
        """Run the backwards of a pass, or of a micro-batch of it.

        Args:
            planned: The pass.
            losses: Loss of each row forwarded, shape ``(R,)``.
            span: Those rows among the pass's.
            by: What stands in the place of ``Tensor.backward``, and multiplies by the loss scale itself.

        Raises:
            PassError: If the pass is over, or has fewer rows left.
        """
        in_progress = self._open and self._made < len(self._planned) and planned is self._planned[self._made]
        if not in_progress or len(losses) > self._rows_left:
            raise PassError("backward() was called on a pass that is over: call it once for its rows, inside the loop.")
        scale = self._loss_scale if by is None else 1.0
        backward = Tensor.backward if by is None else by
        for use in planned.uses:
            self._weights.collect(use.slot)
            value = weighted_sum(losses, use.weights[span])
            backward(value, retain_graph=use is not planned.uses[-1])
            self._add(self._values, use.slot, value.detach() / scale)
        self._rows_left -= len(losses)
        if planned.counted is not None:
            seen = losses.detach() if scale == 1 else losses.detach() / scale
            self.loss = self.loss.to(losses.device) + weighted_sum(seen, planned.counted[span])
        if self._looks and (planned.term is None or planned.select is not None):
            seen = self._before if planned.term is None else self._after
            rows = torch.arange(self.batch_size) if planned.rows is None else planned.rows
            seen[rows[span]] = losses.detach().to(seen) / scale

    def backpropagate_nothing(
        self, planned: PlannedPass, losses: Tensor, by: Callable[..., object] | None = None
    ) -> None:
        """Run the backwards of rows that are forwarded for the other ranks' sake: their gradient is zero.

        Args:
            planned: The pass.
            losses: Loss of each row forwarded, shape ``(R,)``.
            by: What stands in the place of ``Tensor.backward``.
        """
        backward = Tensor.backward if by is None else by
        for use in planned.uses:
            self._weights.collect(use.slot)
            backward((losses * 0).sum(), retain_graph=use is not planned.uses[-1])

    @staticmethod
    def _add(values: dict[int, Tensor], slot: int, value: Tensor) -> None:
        values[slot] = values[slot] + value if slot in values else value


def weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of losses times weights, both of shape ``(R,)``; equal weights are applied as one number, without a copy."""
    first = float(weights[0])
    if bool((weights == first).all()):
        # Multiplied before the sum: the losses get a dense gradient, as mean() gives, so that matmul rounds it alike.
        return (losses * first).sum()
    # Not `losses @ weights`: autocast would round both to half precision.
    return (losses * weights.to(losses, non_blocking=True)).sum()
