"""Base class of the family: an optimizer that runs a method's terms as passes around any base optimizer."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from imbsam.errors import NonFiniteError, OptionError, PassError
from imbsam.optim._base_step import step_inside
from imbsam.optim._counting import Counting
from imbsam.optim._gradients import Combined, Parts
from imbsam.optim._misuse import refuse_capture, refuse_scaler
from imbsam.optim._modules import SHARDED_AFTERWARDS, Modules
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Climb, OnNonFinite, Rows, check_base, check_choices, check_numbers
from imbsam.optim._perturbed import ALL, checked_perturb
from imbsam.optim._plan import BatchStatistics, plan
from imbsam.optim._ranks import Ranks
from imbsam.optim._several import Base, Several
from imbsam.optim._soundness import refuse_cleared, refuse_unsound, was_skipped
from imbsam.optim._state import fills_empty_state
from imbsam.optim._step import Step, memory_name
from imbsam.optim._strangers import Strangers, leave_gradients
from imbsam.optim._tensors import is_sharded, outside_graphs
from imbsam.optim._terms import Term, of_size
from imbsam.optim._weights import ParamGroup, Weights
from imbsam.optim._wrapper import State
from imbsam.optim.ascent import Ascent, Gradient

MOST_SKIPS_IN_A_ROW = 20
"""Skipped steps in a row after which the cause cannot be a single batch."""

PATTERNS = 32
"""Number of patterns of weights of which the plan is kept."""

RowsClosure = Callable[[Tensor], Tensor]
LossClosure = Callable[[], Tensor]


class SharpnessAware(Counting):
    """A base optimizer whose gradient comes from several passes, some of them at perturbed weights.

    ``param_groups``, ``state`` and ``defaults`` are the base optimizer's, so schedulers, clipping, hooks and
    checkpoints see one ordinary optimizer. ``rho`` is an option of each parameter group. If the base has ``train()``
    and ``eval()``, so does the method. In a group with ``maximize`` the perturbation descends, so that the step ascends
    towards a flat maximum. A subclass defines :meth:`terms`, which says which rows carry which weights.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several with
            parameters of their own, such as Muon and AdamW. All share one perturbation, and each makes its step.
        rho: Neighbourhood size, finite, at least 0; 0 is the base optimizer, bit for bit. A group of ``base`` that
            has its own ``"rho"`` keeps it.
        model: The model. Needed where it has BatchNorm or is wrapped for distributed training.
        batch_statistics: Rows that normalise a pass where the model has BatchNorm in training mode. ``"batch"``
            forwards the whole batch in every pass. ``"context"`` forwards the pass's own rows and ``context_rows``
            other rows of the batch; these have no weight in the loss, and stand in the statistics for all rows left
            out.
        context_rows: Number of context rows, at least 1; by default 8, and 32 where a BatchNorm has one place per row
            (tables) or is not torch's 2-D or 3-D layer.
        row_multiple: Round the number of rows of a pass up to a multiple of this, with other rows of the batch that
            have no weight in the loss. ``torch.compile`` then sees few shapes, and an accelerator full tiles.
        rows: ``"needed"`` forwards in each pass only the rows with a weight. ``"all"`` forwards the whole batch, for
            losses in which a row depends on the rows beside it, such as contrastive losses.
        check_rows: Check in the first step, by two forwards of 8 rows, whether rows depend on each other, and warn.
        ascent: Direction of the perturbation; by default the gradient, undamped.
        nonfinite: Reaction of :meth:`step` to a loss or gradient that is NaN or infinite: ``"raise"`` raises an error,
            ``"skip"`` skips the step and counts it, at most 20 in a row; both leave the weights unchanged. The check
            costs one synchronisation with the accelerator per step. ``"unchecked"`` makes no check, and such a step
            spoils the weights.
        climb: Direction on several ranks under ``DistributedDataParallel``. ``"together"`` climbs along the gradient of
            the rows of all ranks, so that N processes make the same step as one process with the whole batch.
            ``"apart"`` climbs on each rank along the gradient of its own rows (m-sharpness, Foret et al. 2021,
            section 4.1), and saves the ascent's all-reduce.
        sharp_from: Number of steps before the weights are perturbed. Until then a step costs one forward-backward of
            every row and is the base optimizer's, as with rho 0 (Late SAM, Zhou et al., ICLR 2025, for SAM). Weights of
            the loss apply from the first step.
        perturb: Parameters to perturb: ``"all"``; ``"norms"`` for those of normalisation layers alone (SAM-ON, Mueller
            et al., NeurIPS 2023, with rho 0.5, and 10 for ASAM); or one or several names in which ``*`` stands for
            anything, such as ``"head.*"``. The length of a direction is taken over these parameters alone.
        radii: Further neighbourhood sizes that the method's terms use, options of the groups like ``rho``.

    Attributes:
        steps: Number of steps made.
        skipped: Number of steps skipped because a loss or gradient was NaN or infinite.
        skipped_in_a_row: Number of steps skipped since the last step made.
        memory: Tensors that method and ascent keep for each parameter, by name.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = False
    """Whether the method needs the rows' classes, so that an ordinary zero-argument closure cannot serve it."""
    memberships = False
    """Whether :meth:`terms` takes memberships, shape ``(B, C)``, as it takes classes."""
    row_wise = False
    """Whether the method needs the loss of each row, so that an ordinary zero-argument closure cannot serve it."""
    _spends: RemovableHandle | None = None
    keeps_ascents = False
    """Whether :meth:`combine` needs the ascent gradients."""

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.05,
        model: nn.Module | None = None,
        batch_statistics: BatchStatistics = "context",
        context_rows: int | None = None,
        row_multiple: int = 1,
        ascent: Ascent | None = None,
        rows: Rows = "needed",
        check_rows: bool = True,
        nonfinite: OnNonFinite = "raise",
        climb: Climb = "together",
        sharp_from: int = 0,
        perturb: str | Sequence[str] = ALL,
        radii: Mapping[str, float] | None = None,
    ) -> None:
        base = base if isinstance(base, Optimizer) else Several(base)
        check_base(base)
        check_choices({"batch_statistics": batch_statistics, "rows": rows, "nonfinite": nonfinite, "climb": climb})
        check_numbers({"context_rows": context_rows, "row_multiple": row_multiple})
        check_number("sharp_from", sharp_from, least=0, whole=True)
        self.radii = {"rho": rho, **(radii or {})}
        for group in ({}, *base.param_groups):
            self._check_radii(group)
        # Some optimizers keep this option for themselves, and the direction goes by the groups'.
        turned = {"maximize": True} if getattr(base, "maximize", False) is True else {}
        super().__init__(base, {**self.radii, **turned})
        self.model = model
        self.ascent = ascent if ascent is not None else Gradient()
        if self.keeps_ascents and self.ascent.spares_passes:
            raise OptionError(
                f"{type(self).__name__} compares the gradients before and after the perturbation, and {self.ascent!r} "
                "makes steps without the first: choose an ascent by gradient, such as Gradient, Adaptive or Friendly."
            )
        self.batch_statistics = batch_statistics
        self.context_rows = context_rows
        self.row_multiple = row_multiple
        self.rows = rows
        self.check_rows = check_rows
        self.nonfinite = nonfinite
        self.climb = climb
        self.sharp_from = sharp_from
        self.perturb = checked_perturb(perturb)
        self._bind()

    def bind(self, model: nn.Module) -> None:
        """Tell the optimizer that its model has been wrapped, or that the model's modules have changed.

        Weights, state and memory stay as they are. The wrapper has to keep the optimizer's parameters, as
        ``DistributedDataParallel`` and ``torch.compile`` do; ``fully_shard`` replaces them.

        Args:
            model: The model as it is called in training.

        Raises:
            OptionError: If the model has none of the optimizer's parameters, or the options do not suit it.
            PassError: If passes are open.
        """
        self._refuse_now("bind()")
        self._check_model(model)
        self.model = model
        self._bind()

    def _check_model(self, model: nn.Module) -> None:
        own = set(self._own_params())
        if own.isdisjoint(model.parameters()):
            if any(is_sharded(p) for p in model.parameters()):
                raise PassError(SHARDED_AFTERWARDS)
            raise OptionError(
                f"the {type(model).__name__} given as model has none of the optimizer's parameters (it may be a "
                "copy): make base and optimizer with the parameters of this model."
            )

    def _bind(self) -> None:
        """Set up what lives in memory only, and is not part of a checkpoint or a copy."""
        self._modules = Modules(self.model)
        self._strangers = Strangers()
        self._ranks = Ranks(self.model)
        self._weights = Weights(self.model, self.perturb)
        self._weights.check(self.param_groups)
        if self._spends is not None:
            self._spends.remove()
        self._spends = self.base.register_step_post_hook(leave_gradients)
        self._step: Step | None = None
        # Terms that the number of rows alone decides are made once for each, and so is the plan of the same terms.
        self._by_size = lru_cache(8)(of_size)
        self._lay_out = lru_cache(PATTERNS)(plan)
        self._check_climb()
        # Ranks would have to agree on it.
        self._rows_unchecked = self.check_rows and self._ranks.size == 1

    def terms(self, targets: Tensor) -> Sequence[Term]:
        """Return the terms of the method for a batch.

        Args:
            targets: Class of each row, shape ``(B,)``, int64, on the CPU. A method that takes ``memberships`` may also
                get those, shape ``(B, C)``, float64, in [0, 1]. A method that is not ``class_aware`` gets zeros instead
                of targets that are not integers ``(B,)``: only their number counts.

        Returns:
            Terms for the mean over the batch; the same number for every batch.
        """
        raise NotImplementedError

    def ordered_terms(self, targets: Tensor) -> tuple[Sequence[Term], Tensor | None]:
        """Return the terms with the batch's rows in an order of the method's own, where rows do not see each other.

        In that order few patterns of weights occur, so that terms and the plan of a pattern are made once.

        Args:
            targets: Classes ``(B,)`` or memberships ``(B, C)``, as for :meth:`terms`.

        Returns:
            The terms, without a ``select``, and the order, shape ``(B,)``, int64; ``None`` is the rows' own order.
        """
        return self.terms(targets), None

    @outside_graphs
    def passes(self, targets: Tensor, *, loss_scale: float = 1.0, accumulate: bool = False) -> Step:
        """Open the passes of one step; the caller makes forward and backward of each.

        After the ``with`` block the combined gradient is in ``.grad``, at the unperturbed weights: clip it if you like,
        then call :meth:`step`. The gradient of the previous step is dropped.

        Args:
            targets: Class of each row of the batch, shape ``(B,)``, whole numbers of any type; or the membership of
                each row in each class, shape ``(B, C)``, in [0, 1]: soft targets that sum to 1, or several labels. A
                method that is not ``class_aware`` takes anything with one entry per row. Targets on the CPU save a
                synchronisation with the accelerator.
            loss_scale: Factor that the losses given to ``backward`` are multiplied by, such as ``scaler.get_scale()``
                of a ``GradScaler``. Directions, damping and the returned loss are those of the unscaled losses; the
                gradient in ``.grad`` stays scaled, for ``scaler.unscale_`` to divide.
            accumulate: Add the gradient to that of passes which wait for the same :meth:`step`, or to your own
                gradient in ``.grad``. Each micro-batch climbs by itself (m-sharpness, Foret et al. 2021, section 4.1),
                and the memory of a method comes from the last one; ``Pass.split`` climbs along all rows at once.

        Returns:
            A context manager that yields the passes.

        Raises:
            OptionError: If the targets do not fit the method, or a group's ``rho`` or ``loss_scale`` is out of range.
            PassError: If passes are open already or wait for :meth:`step`, a schedule-free base is in evaluation mode,
                or a CUDA graph is being captured; on entering, if ``.grad`` has a gradient that no pass made. With
                ``accumulate``, waiting passes and a gradient in ``.grad`` are allowed.

        Example:
            >>> with optimizer.passes(y) as passes:  # doctest: +SKIP
            ...     for p in passes:
            ...         p.backward(criterion(model(x[p.rows]), y[p.rows]))
            >>> optimizer.step()  # doctest: +SKIP
        """
        self._refuse_now("passes()")
        refuse_capture()
        self._refuse_evaluation()
        for group in self.param_groups:
            self._check_radii(group)
        if not accumulate:
            self._refuse_waiting_passes()
        self._step = Step(self, targets, loss_scale, accumulate=accumulate)
        return self._step

    def _watch(self, step: Step | None) -> None:
        """Follow the forwards of a step, where the method looks into them; of ``None`` no more."""

    @property
    def is_sharp(self) -> bool:
        """Return whether the next step perturbs the weights, where a group has a neighbourhood."""
        return self.steps >= self.sharp_from

    def _moves(self, term: Term) -> bool:
        """Return whether the step perturbs the weights of any parameter group for the term."""
        return self.is_sharp and any(group[term.radius] for group in self.param_groups)

    @property
    def combines(self) -> bool:
        """Return whether the method has a :meth:`combine` of its own."""
        return type(self).combine is not SharpnessAware.combine or "combine" in vars(self)

    def combine(self, parts: Parts) -> Combined | None:
        """Combine the gradients of the passes into the step's gradient; by default they are summed already.

        Args:
            parts: Gradients and losses by name, over all ranks.

        Returns:
            The combined gradient and the memory to keep, or ``None`` to leave the step's gradient as it is.
        """
        return None

    @outside_graphs
    def step(  # type: ignore[override]
        self, closure: RowsClosure | LossClosure | None = None, *, targets: Tensor | None = None
    ) -> Tensor | None:
        """Make one step.

        Without a closure the step applies the gradient of the passes made before. With ``targets`` the closure gets the
        rows to forward and returns their losses. A method that does not need classes also takes the ordinary closure of
        ``torch.optim``, which takes no argument, clears the gradients, computes the mean loss, backpropagates and
        returns it.

        Args:
            closure: ``closure(rows)`` with ``rows`` of shape ``(R,)`` gives losses of shape ``(R,)``; or ``closure()``.
            targets: Classes or memberships of the rows of the batch, see :meth:`passes`.

        Returns:
            Mean loss of the batch at the unperturbed weights, a scalar without graph; ``None`` without a closure.

        Raises:
            NonFiniteError: If a loss or gradient was NaN or infinite; the weights are unchanged.
            PassError: If there are no finished passes to apply, or passes are open, or a schedule-free base is in
                evaluation mode, or a CUDA graph is being captured.
            TypeError: If a method that needs classes is given a closure without ``targets``.
        """
        waiting = self._waiting
        if closure is None and waiting is None and fills_empty_state(self.base):
            self._fill_state()
            return None
        self._refuse_now("step()")
        refuse_capture()
        if closure is None:
            if waiting is None:
                raise PassError(
                    "step() has no finished passes to apply. Make them by `with optimizer.passes(targets) as passes`, "
                    "or call step(closure, targets=targets); optimizer.base.step() makes a plain step."
                )
            self._apply(waiting)
            return None
        refuse_scaler()
        if waiting is not None:
            raise PassError(
                "step(closure) makes its own passes, but earlier passes still wait: apply them by step() "
                "without a closure, or drop them by zero_grad()."
            )
        if targets is None and (self.class_aware or self.row_wise):
            raise TypeError(
                f"{type(self).__name__} needs the {'class' if self.class_aware else 'loss'} of each row: "
                "step(lambda rows: criterion(model(x[rows]), y[rows]), targets=y), with reduction='none'."
            )
        # A closure without rows does not say how many it has; to the plan its mean is a batch of one.
        with (
            torch.enable_grad(),
            self.passes(torch.zeros(1, dtype=torch.long) if targets is None else targets) as passes,
        ):
            if targets is None:
                passes.run(cast(LossClosure, closure))
            else:
                for each in passes:
                    with torch.set_grad_enabled(each.needs_gradient):
                        losses = cast(RowsClosure, closure)(each.rows)
                    each.backward(losses)
        self._apply(passes)
        return passes.loss

    def _apply(self, step: Step) -> None:
        self._refuse_evaluation()
        step.life = "dead"
        grads = step.grads()
        refuse_cleared(step, grads)
        if self.nonfinite != "unchecked" and not self._is_sound(step, grads):
            self.skipped += 1
            self.skipped_in_a_row += 1
        else:
            step_inside(self.base)
            self.steps += 1
            self.skipped_in_a_row = 0
            for name, kept in step.memory.items():
                self.memory.setdefault(name, {}).update(kept)
        self._count()

    def _is_sound(self, step: Step, grads: Sequence[Tensor]) -> bool:
        try:
            refuse_unsound(step, grads, self._ranks, self._modules.buffers)
        except NonFiniteError as error:
            leave_gradients(self.base)
            if self.nonfinite == "raise":
                raise
            if self.skipped_in_a_row == MOST_SKIPS_IN_A_ROW:
                raise NonFiniteError(f"{MOST_SKIPS_IN_A_ROW} steps in a row were skipped, and {error}") from None
            return False
        return True

    @property
    def _waiting(self) -> Step | None:
        """Return the finished passes that wait for :meth:`step`."""
        return self._step if self._step is not None and self._step.life == "done" else None

    def _refuse_waiting_passes(self) -> None:
        waiting = self._waiting
        if waiting is not None and not was_skipped(waiting):
            raise PassError(
                "passes() would drop finished passes that wait for step(): call step(), add micro-batches to them by "
                "passes(targets, accumulate=True), cut one batch by p.split(size), or drop them by zero_grad()."
            )
        if waiting is not None:
            leave_gradients(self.base)
        self._drop_step()

    @property
    def _is_open(self) -> bool:
        return self._step is not None and self._step.life == "open"

    def _drop_step(self) -> None:
        if self._step is not None:
            self._step.life = "dead"
        self._step = None

    def _refuse_now(self, call: str) -> None:
        if self._is_open:
            raise PassError(
                f"{call} inside open passes, where the weights may be perturbed: leave the `with` block first."
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and drop finished passes that wait for :meth:`step`.

        While passes are open it does nothing: they began without a gradient, and their gradients add up.
        """
        if not self._is_open:
            self._drop_step()
            super().zero_grad(set_to_none)

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Add a group to the base optimizer; its ``rho`` defaults to the one given at construction.

        Raises:
            OptionError: If its ``rho`` is out of range.
            PassError: If passes are open.
        """
        self._refuse_now("add_param_group()")
        if isinstance(param_group, dict):
            self._check_radii(param_group)
        super().add_param_group(param_group)

    def _places(self) -> list[str]:
        """Return the names of the memory kept for each parameter, as far as known before the first step."""
        terms = self.terms(torch.zeros(1, dtype=torch.long)) if self.ascent.remembers else ()
        return [*self.keeps, *(memory_name(k, t) for k, t in enumerate(terms) if t.ascent is not None)]

    def _unpack(self, state: State) -> None:
        super()._unpack(state)
        self._bind()

    def _check_radii(self, group: Mapping[str, object]) -> None:
        for name, default in self.radii.items():
            check_number(name, group.get(name, default), least=0)

    def _check_climb(self) -> None:
        if self.climb == "together":
            return
        if self.keeps_ascents or self.ascent.remembers:
            raise OptionError(
                f"climb='apart' leaves each rank a gradient of its own, and {type(self).__name__} with {self.ascent!r} "
                "keeps it for the step or for later ones, so that the replicas would diverge: choose climb='together'."
            )
        if self._ranks.sharded:
            raise OptionError(
                "climb='apart' moves each replica separately, but sharded weights have no replicas: 'together'."
            )

    @property
    def distributed(self) -> bool:
        """Return whether several ranks share the model's gradients."""
        return self._ranks.size > 1

    def __getstate__(self) -> dict[str, object]:
        self._refuse_now("copying")
        return super().__getstate__()

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._bind()
        # A copy cannot tell what its gradients are of.
        leave_gradients(self.base)
