"""The engine of the family: an optimizer that runs a method's terms as passes around any base optimizer."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imbsam.errors import OptionError, PassError
from imbsam.optim._batchnorm import RunningStatistics, UnseenBatchNorm
from imbsam.optim._passes import Passes
from imbsam.optim._plan import BatchStatistics, plan
from imbsam.optim._ranks import Ranks
from imbsam.optim._terms import Term
from imbsam.optim._weights import Weights
from imbsam.optim.ascent import Ascent, Gradient, global_norm

RowsClosure = Callable[[Tensor], Tensor]
LossClosure = Callable[[], Tensor]


class SharpnessAware(Optimizer):
    """A base optimizer whose gradient comes from several passes, some of them at perturbed weights.

    It shares ``param_groups`` and ``state`` with the base optimizer, so schedulers, clipping, hooks and checkpoints
    see one ordinary optimizer. ``rho`` is an option of each parameter group. A subclass says which rows carry
    which weights, by :meth:`terms`.

    Args:
        base: Any ``torch.optim.Optimizer`` instance; it makes the step.
        rho: Neighbourhood size, finite, at least 0; 0 is the base optimizer, bit for bit. A group of ``base`` that
            has its own ``"rho"`` keeps it.
        model: The model. Needed where it has BatchNorm or is wrapped for distributed training.
        batch_statistics: What normalises the rows of a pass where the model has BatchNorm in training mode:
            ``"batch"`` forwards the whole batch in every pass; ``"context"`` forwards the pass's own rows beside
            ``context_rows`` other rows of the batch, whose losses have no weight.
        context_rows: How many.
        ascent: Where the perturbation points; by default the gradient, undamped.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = False
    """Whether the method needs the rows' classes, so that an ordinary zero-argument closure cannot serve it."""

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        model: nn.Module | None = None,
        batch_statistics: BatchStatistics = "context",
        context_rows: int = 8,
        ascent: Ascent | None = None,
    ) -> None:
        if not isinstance(base, Optimizer):
            raise OptionError(f"base must be an optimizer instance, as SGD(model.parameters(), lr=0.1); got {base!r}.")
        if batch_statistics not in ("batch", "context"):
            raise OptionError(f"batch_statistics must be 'batch' or 'context'; got {batch_statistics!r}.")
        if context_rows < 1:
            raise OptionError(f"context_rows must be at least 1; got {context_rows}.")
        if "rho" in base.defaults:
            raise OptionError(
                f"{type(base).__name__} has an option rho of its own, which would be taken for the neighbourhood size: "
                "choose another base optimizer."
            )
        for value in (rho, *(group["rho"] for group in base.param_groups if "rho" in group)):
            _check_rho(value)
        super().__init__(base.param_groups, {"rho": rho})
        self.base = base
        self.defaults = {**base.defaults, "rho": rho}
        self.model = model
        self.ascent = ascent if ascent is not None else Gradient()
        self.batch_statistics = batch_statistics
        self.context_rows = context_rows
        self._start()

    def _start(self) -> None:
        """Set up what lives in memory only: no checkpoint or copy carries it."""
        self.param_groups = self.base.param_groups
        self.state = self.base.state
        self._statistics = RunningStatistics(self.model)
        self._ranks = Ranks(self.model)
        self._watch = UnseenBatchNorm() if self.model is None else None
        self._saved: dict[Tensor, Tensor] = {}
        self._passes: Passes | None = None
        self._ready: Passes | None = None

    def terms(self, targets: Tensor) -> Sequence[Term]:
        """The terms of the method for a batch.

        Args:
            targets: Class of each row, shape ``(B,)``, int64, on the CPU.

        Returns:
            Terms for the mean over the batch; as many for every batch.
        """
        raise NotImplementedError

    def passes(self, targets: Tensor) -> Passes:
        """Open the passes of one step; forward and backward stay the caller's.

        After the ``with`` block the combined gradient lies in ``.grad``, at the unperturbed weights: clip it where you
        like, then call :meth:`step`. Gradients from before are dropped.

        Args:
            targets: Class of each row of the batch, shape ``(B,)``, integers. On the CPU they spare an accelerator
                a synchronisation.

        Returns:
            A context manager that yields the passes.

        Raises:
            OptionError: If the targets do not fit the method.
            PassError: If passes are open already.

        Example:
            >>> with optimizer.passes(y) as passes:  # doctest: +SKIP
            ...     for p in passes:
            ...         p.backward(criterion(model(x[p.rows]), y[p.rows]))
            >>> optimizer.step()  # doctest: +SKIP
        """
        self._refuse_open_passes("passes()")
        on_cpu = _checked_targets(targets)
        terms = self.terms(on_cpu)
        if not any(group["rho"] for group in self.param_groups):
            terms = [Term(term.descent) for term in terms]
        rows = len(on_cpu)
        mean_rows, need = self._ranks.agree(rows, terms)
        if mean_rows != rows:
            terms = [term.scaled(rows / mean_rows) for term in terms]
        planned = plan(
            terms,
            need,
            coupled=self._statistics.live(),
            statistics=self.batch_statistics,
            context_rows=self.context_rows,
            share=self._ranks.size == 1,
        )
        others = self.model.parameters() if self.model is not None else ()
        weights = Weights(self.param_groups, others, self._saved, self.model)
        self._ready = None
        self._passes = Passes(
            planned,
            batch_size=rows,
            device=targets.device,
            weights=weights,
            statistics=self._statistics,
            ascent=self.ascent,
            watch=self._watch,
            on_open=self._open,
            on_close=self._close,
        )
        return self._passes

    def _open(self, passes: Passes) -> None:
        if passes is not self._passes:
            raise PassError("these passes are over, or passes() was called again since: enter each where it is made.")

    def _close(self, passes: Passes, complete: bool) -> None:
        self._passes = None
        self._ready = passes if complete else None
        if complete:
            self._watch = None

    def step(  # type: ignore[override]
        self, closure: RowsClosure | LossClosure | None = None, *, targets: Tensor | None = None
    ) -> Tensor | None:
        """Make one step.

        Without a closure it applies the gradient of the passes made before. With ``targets`` the closure gets the rows
        to forward and returns their losses. A method that does not need classes also takes the ordinary closure of
        ``torch.optim``: no argument, clears the gradients, computes the mean loss, backpropagates and returns it.

        Args:
            closure: ``closure(rows)`` with ``rows`` of shape ``(R,)`` gives losses of shape ``(R,)``; or ``closure()``.
            targets: Class of each row of the batch, shape ``(B,)``.

        Returns:
            The batch's mean loss at the unperturbed weights, a scalar without graph; ``None`` without a closure.

        Raises:
            NonFiniteError: If a loss or gradient was NaN or infinite; the weights are unchanged.
            PassError: If there are no finished passes to apply, or passes are open.
            TypeError: If a method that needs classes is given a closure without ``targets``.
        """
        self._refuse_open_passes("step()")
        if closure is None:
            if self._ready is None:
                raise PassError(
                    "step() has no finished passes to apply. Make them by `with optimizer.passes(targets) as passes`, "
                    "or call step(closure, targets=targets); optimizer.base.step() makes a plain step."
                )
            self._apply(self._ready)
            return None
        if targets is None and self.class_aware:
            raise TypeError(
                f"{type(self).__name__} needs the class of each row: "
                "step(lambda rows: criterion(model(x[rows]), y[rows]), targets=y), with reduction='none'."
            )
        if targets is None:
            return self._step_on_mean_loss(cast(LossClosure, closure))
        with torch.enable_grad(), self.passes(targets) as passes:
            for each in passes:
                each.backward(cast(RowsClosure, closure)(each.rows))
        self._apply(passes)
        return passes.loss

    def _step_on_mean_loss(self, closure: LossClosure) -> Tensor:
        # The closure does not say how many rows it has; to the plan its mean is a batch of one.
        with torch.enable_grad(), self.passes(torch.zeros(1, dtype=torch.long)) as passes:
            passes.run(closure)
        self._apply(passes)
        return passes.loss

    def _apply(self, passes: Passes) -> None:
        self._ready = None
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        passes.check(global_norm(grads) if grads else None)
        self.base.step()

    def _refuse_open_passes(self, call: str) -> None:
        if self._passes is not None and self._passes.is_open:
            raise PassError(
                f"{call} inside open passes, where the weights may be perturbed: leave the `with` block first."
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients. Open passes began without any, and theirs add up: there it does nothing."""
        if self._passes is None or not self._passes.is_open:
            super().zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, object]) -> None:
        """Add a group to the base optimizer; its ``rho`` defaults to the one given at construction."""
        if not hasattr(self, "base"):
            super().add_param_group(param_group)
            return
        group = {"rho": self.defaults["rho"], **param_group}
        _check_rho(cast(float, group["rho"]))
        self.base.add_param_group(group)

    def state_dict(self) -> dict[str, object]:
        """The base optimizer's state with each group's ``rho``; never a perturbation.

        Raises:
            PassError: If passes are open.
        """
        self._refuse_open_passes("state_dict()")
        return cast(dict[str, object], self.base.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Load what :meth:`state_dict` gave, or the state of the base optimizer alone.

        Raises:
            PassError: If passes are open.
        """
        self._refuse_open_passes("load_state_dict()")
        rhos = [group["rho"] for group in self.base.param_groups]
        self.base.load_state_dict(cast(dict[str, object], state_dict))
        for group, rho in zip(self.base.param_groups, rhos, strict=True):
            group.setdefault("rho", rho)
        self._start()

    def __getstate__(self) -> dict[str, object]:
        self._refuse_open_passes("copying")
        kept = ("base", "defaults", "model", "ascent", "batch_statistics", "context_rows")
        return {**{name: getattr(self, name) for name in kept}, **self._method_state()}

    def _method_state(self) -> dict[str, object]:
        """What a subclass adds to a copy of itself."""
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__({**state, "param_groups": [], "state": {}})
        self._start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"


def _check_rho(rho: float) -> None:
    if not (math.isfinite(rho) and rho >= 0):
        raise OptionError(f"rho must be finite and at least 0; got {rho}.")


def _checked_targets(targets: Tensor) -> Tensor:
    if not isinstance(targets, Tensor) or targets.ndim != 1 or len(targets) == 0:
        shape = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise OptionError(f"targets must be a tensor with the class of each row, shape (B,), B > 0; got {shape}.")
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise OptionError(f"targets must be integer class indices; got {targets.dtype}.")
    return targets.detach().cpu().long()
